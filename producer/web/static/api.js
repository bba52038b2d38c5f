// The API, as the page uses it.
import { t } from "/static/i18n.js";

export const BASE = "/api/v1";

/** Shows an error's line and remedy; without one hides them. */
export function say(problem) {
  const line = document.getElementById("problem");
  line.hidden = !problem;
  if (problem) line.textContent = [problem.detail || problem.message || String(problem), problem.remedy].filter(Boolean).join(": ");
}

async function answer(response) {
  if (response.status === 401) location.assign("/login");
  if (response.ok) return response;
  throw await response.json().catch(() => ({ detail: `HTTP ${response.status}` }));
}

export async function get(path) {
  return (await answer(await fetch(BASE + path))).json();
}

export async function call(method, path) {
  const response = await answer(await fetch(BASE + path, { method }));
  return response.status === 204 ? {} : response.json();
}

/** New lines of a job's results since a place in them, and which file they are of: a retry writes a new one. */
export async function linesFrom(job, place) {
  const leaving = new AbortController();
  const response = await fetch(`${BASE}/jobs/${job}/results?format=jsonl&from=${place}`, { signal: leaving.signal });
  if (!response.ok) return { place, file: "" };
  return {
    lines: linesOf(response.body.pipeThrough(new TextDecoderStream()).getReader()),
    place: Number(response.headers.get("Ocrfleet-Next")),
    file: response.headers.get("Ocrfleet-File"),
    drop: () => leaving.abort(),
  };
}

/** One by one: the text of all lines may be longer than a browser can have one. */
async function* linesOf(reader) {
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines.filter(Boolean);
  }
  if (rest) yield rest;
}

/** Sends files (name -> File) and tells how far it is; fetch cannot tell. */
export function upload(files, options, progress) {
  const form = new FormData();
  for (const [name, value] of Object.entries(options)) if (value) form.append(name, value);
  for (const [name, file] of files) form.append("files", file, name);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${BASE}/jobs`);
    request.responseType = "json";
    request.upload.onprogress = (event) => progress(event.loaded / event.total);
    request.onload = () => {
      if (request.status === 401) location.assign("/login");
      if (request.status < 300) resolve(request.response);
      else reject(request.response ?? { detail: `HTTP ${request.status}` });
    };
    request.onerror = () => reject({ detail: t("no_answer") });
    request.send(form);
  });
}
