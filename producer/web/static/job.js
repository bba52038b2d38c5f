// The job on the screen: its rows, live, failures first; its downloads.
import { BASE, call, get, linesFrom, say, upload } from "/static/api.js";
import { t } from "/static/i18n.js";
import { filter, show } from "/static/viewer.js";

const MOST_ROWS = 500;
const LOOK_MS = 2000;
const FORMATS = ["jsonl", "csv", "coco", "icdar", "labelstudio", "pagexml"];
const by = (id) => document.getElementById(id);
let files = new Map();
let pictures = new Map(); // the same, by the names that they have on the server
let job = null;
let pages = new Map();
let records = new Map();
let place = 0;
let file = "";
let selected = null;
let events = null;
let busy = false;

const isOver = (status) => !["open", "preparing"].includes(status.state);

/** Uploads files (name -> File) and shows what becomes of them. */
export async function begin(chosen) {
  files = chosen;
  say(null);
  by("job").hidden = false;
  by("drop").classList.add("small");
  by("job-title").textContent = [...files.keys()][0];
  setState("upload", 0);
  try {
    const status = await upload(files, chosenOptions(), (part) => setState("upload", part));
    const renamed = status.renamed ?? {};
    const sent = [...files].map(([name, file], number) => [renamed[number] ?? name, file, number in renamed]);
    pictures = new Map(sent.sort((a, b) => a[2] - b[2])); // what was renamed last: its old name may be another's now
    follow(status);
  } catch (problem) {
    setState("refused", 0);
    say(problem);
  }
}

const chosenOptions = () => ({
  limit_side: by("side").value,
  box_threshold: by("box_threshold").value,
  unclip_ratio: by("unclip_ratio").value,
});

/** Shows a job that is there already. */
export function openJob(status) {
  [files, pictures] = [new Map(), new Map()];
  by("job").hidden = false;
  by("drop").classList.add("small");
  follow(status);
}

function follow(status) {
  events?.close();
  [pages, records, place, file, selected] = [new Map(), new Map(), 0, "", null];
  show(null);
  by("downloads").replaceChildren(...FORMATS.map((format) => link(status.job, format)));
  location.hash = `detect/${status.job}`;
  job = status;
  listen();
  update(status);
}

function listen() {
  events?.close();
  events = new EventSource(`${BASE}/jobs/${job.job}/events`);
  events.onmessage = (event) => update(JSON.parse(event.data));
  events.addEventListener("end", () => events.close());
  events.addEventListener("gone", () => events.close());
  const mine = events;
  events.onerror = () => { // a browser asks again by itself where a stream ends, but not after 429 or 503
    if (mine === events && mine.readyState === EventSource.CLOSED) look(job.job);
  };
}

/** Asks how a job stands, now and then: what watches it was refused. */
async function look(name) {
  if (job.job !== name || isOver(job)) return;
  try {
    await update(await get(`/jobs/${name}`));
  } catch (problem) {
    say(problem);
    if (problem.status === 404) return;
  }
  setTimeout(look, LOOK_MS, name);
}

function link(name, format) {
  const anchor = document.createElement("a");
  anchor.href = `${BASE}/jobs/${name}/results?format=${format}`;
  anchor.download = "";
  anchor.textContent = format;
  return anchor;
}

function setState(state, part) {
  by("job-state").textContent = t(state === "done" ? "state_done" : state);
  by("job-state").className = `state ${state}`;
  by("job-progress").value = part;
}

async function update(status) {
  job = status;
  const done = status.ok + status.failed;
  by("job-title").textContent = status.title + (status.files > 1 ? ` (+${status.files - 1})` : "");
  setState(status.state, status.total ? done / status.total : 0);
  const numbers = [`${done} / ${status.total ?? "?"}`];
  if (!isOver(status)) {
    if (status.images_per_second) numbers.push(t("per_s", { rate: status.images_per_second.toFixed(1) }));
    if (status.eta_seconds) numbers.push(t("eta", { s: Math.round(status.eta_seconds) }));
    numbers.push(status.workers_alive ? t("workers_n", { n: status.workers_alive }) : t("no_workers"));
  }
  if (status.reason) numbers.push(status.reason);
  by("job-numbers").textContent = numbers.join(" · ");
  by("cancel").hidden = isOver(status);
  by("retry").hidden = !(isOver(status) && (status.failed || status.state === "cancelled"));
  by("again").disabled = files.size === 0;
  await load(status);
}

async function load(status) {
  if (busy) return;
  busy = true;
  try {
    while (status.results_file !== file || status.results_bytes > place) {
      const found = await linesFrom(status.job, place);
      if (!found.file) break;
      if (found.file !== file && place > 0) { // a retry wrote a new file: the place meant the old one
        found.drop();
        place = 0;
        continue;
      }
      if (!await taken(found, status.job)) break;
      if (found.file === file && found.place === place) break;
      [place, file] = [found.place, found.file];
      if (status.results_file !== file) break; // told again by the next event
    }
    if (status.total && (!isOver(status) || pages.size < Math.min(status.total, MOST_ROWS))) {
      const found = new Map();
      let next = `limit=${MOST_ROWS}`;
      while (next && found.size < MOST_ROWS) { // long names: several answers
        const listed = await get(`/jobs/${status.job}/pages?${next}`);
        for (const page of listed.pages) found.set(page.index, page);
        next = listed.next;
      }
      if (job.job === status.job) pages = found;
    }
    draw();
  } catch (problem) {
    say(problem);
  } finally {
    busy = false;
  }
  if (job !== status && (job.job !== status.job || job.results_bytes > place)) await load(job);
}

/** Whether all lines were taken; false: another job is shown by now. */
async function taken(found, name) {
  for await (const line of found.lines) {
    if (job.job !== name) {
      found.drop();
      return false;
    }
    keep(JSON.parse(line));
  }
  return job.job === name;
}

/** Keeps a record if it may be among the rows: of very many, those of the first pages that failed, and of the others. */
function keep(record) {
  records.set(record.index, record);
  if (records.size < 4 * MOST_ROWS) return;
  for (const isOk of [true, false]) {
    const those = [...records.values()].filter((one) => (one.status === "ok") === isOk).sort((a, b) => a.index - b.index);
    for (const one of those.slice(MOST_ROWS)) if (one.index !== selected) records.delete(one.index);
  }
}

function rowsInOrder() {
  const rows = [...new Set([...pages.keys(), ...records.keys()])].map((index) => {
    const record = records.get(index);
    const page = record ?? pages.get(index);
    return { index, record, page, state: record ? record.status : page.state };
  });
  const rank = { failed: 0, running: 1, ok: 2, queued: 3, waiting: 4 };
  return rows.sort((a, b) => rank[a.state] - rank[b.state] || a.index - b.index);
}

function draw() {
  const skipped = Object.entries(job.skipped).map(([image, reason]) => rowOf({ image, page: 0 }, "skipped", "", reason));
  const rows = rowsInOrder();
  const first = rows.find((row) => row.state === "ok");
  if (selected === null && first) select(first.index);
  by("rows").replaceChildren(...skipped, ...rows.slice(0, MOST_ROWS).map((row) => {
    const boxes = row.record && row.state === "ok" ? row.record.boxes.length : "";
    return rowOf(row.page, row.state, boxes, row.record?.error?.message, row.index);
  }));
  const left = (job.total ?? 0) - Math.min(rows.length, MOST_ROWS);
  by("more").textContent = [...(left > 0 ? [t("more", { n: left })] : []), ...job.warnings].join(" · ");
}

function rowOf(page, state, boxes, reason, index) {
  const row = document.createElement("tr");
  const [name, what, count] = ["name", `state ${state === "skipped" ? "failed" : state}`, ""].map((kind) => {
    const cell = row.insertCell();
    cell.className = kind;
    return cell;
  });
  const label = page.image + (page.page > 0 || /\.pdf$/i.test(page.image) ? ` · ${page.page + 1}` : "");
  if (state === "ok") {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", () => { select(index); draw(); });
    name.append(button);
  } else {
    name.textContent = label;
  }
  row.setAttribute("aria-selected", index !== undefined && index === selected);
  what.textContent = t(state);
  count.textContent = boxes;
  if (reason) {
    const line = document.createElement("div");
    line.className = "reason";
    line.textContent = reason;
    name.append(line);
    if (index !== undefined && isOver(job)) {
      const again = document.createElement("button");
      again.type = "button";
      again.textContent = t("retry_one");
      again.addEventListener("click", retry);
      count.append(again);
    }
  }
  return row;
}

function fileOf(image) {
  return pictures.get(image) ?? [...pictures].find(([name]) => image.startsWith(`${name}/`))?.[1];
}

function select(index) {
  selected = index;
  const record = records.get(index);
  show(record, record && fileOf(record.image));
}

async function retry() {
  try {
    const status = await call("POST", `/jobs/${job.job}/retry`);
    for (const [index, record] of records) if (record.status !== "ok") records.delete(index);
    [place, file] = [0, ""];
    await update(status);
    listen();
  } catch (problem) {
    say(problem);
  }
}

by("retry").addEventListener("click", retry);
by("again").addEventListener("click", () => begin(files));
by("cancel").addEventListener("click", () => call("POST", `/jobs/${job.job}/cancel`).then(update, say));
by("score").addEventListener("input", (event) => {
  by("score-value").textContent = Number(event.target.value).toFixed(2);
  filter(Number(event.target.value));
});
