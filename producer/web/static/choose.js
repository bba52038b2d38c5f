// Ways to give files to the page: drop (folders too), paste, choose, camera.
const UNSAFE = /[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\\:*?"<>|[\]]/g;

/** Files by the names they will have on the server: safe, and each once. */
function named(list) {
  const files = new Map();
  const numbers = new Map(); // the last one of each name: a phone calls all its pictures the same
  for (const { path, file } of list) {
    const clean = path.replace(UNSAFE, "_").replace(/(^|\/)\./g, "$1_");
    let name = clean;
    let number = numbers.get(clean) ?? 1;
    while (files.has(name)) name = clean.replace(/(\.[^./]*)?$/, `-${++number}$1`);
    numbers.set(clean, number);
    files.set(name, file);
  }
  return files;
}

const ofInput = (input) => [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));

async function entryFiles(entry, prefix = "") {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ path: prefix + file.name, file }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const child of some) found.push(...await entryFiles(child, `${prefix}${entry.name}/`));
  }
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files].map((file) => ({ path: file.name, file }));
  return (await Promise.all(entries.map((entry) => entryFiles(entry)))).flat();
}

/** Calls back with name -> File whenever somebody gives files. */
export function onFiles(take) {
  const give = (list) => {
    const visible = list.filter(({ path }) => !/(^|\/)\./.test(path));
    if (visible.length) take(named(visible));
  };
  for (const id of ["files", "folder", "camera"]) {
    document.getElementById(id).addEventListener("change", (event) => {
      give(ofInput(event.target));
      event.target.value = "";
    });
  }
  const area = document.getElementById("drop");
  document.addEventListener("dragover", (event) => { event.preventDefault(); area.classList.add("over"); });
  document.addEventListener("dragleave", () => area.classList.remove("over"));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    area.classList.remove("over");
    give(await dropped(event.dataTransfer));
  });
  document.addEventListener("paste", (event) => {
    give([...event.clipboardData.files].map((file) => ({ path: file.name, file })));
  });
}
