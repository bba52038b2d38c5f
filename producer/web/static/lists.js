// The tables of jobs, workers and models.
import { BASE, call, get, say } from "/static/api.js";
import { t } from "/static/i18n.js";
import { openJob } from "/static/job.js";

const by = (id) => document.getElementById(id);

function row(...cells) {
  const line = document.createElement("tr");
  for (const content of cells) {
    const cell = line.insertCell();
    cell.append(...[content].flat());
  }
  return line;
}

function button(key, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = t(key);
  element.addEventListener("click", () => Promise.resolve(action()).catch(say));
  return element;
}

function state(name) {
  const element = document.createElement("span");
  element.className = `state ${name}`;
  element.textContent = t(name === "done" ? "state_done" : name);
  return element;
}

export async function drawJobs() {
  const { jobs } = await get("/jobs");
  by("all-jobs").replaceChildren(...jobs.map((job) => {
    const over = !["open", "preparing"].includes(job.state);
    const actions = !job.own ? [t("other")] : [
      button("open_job", async () => openJob(await get(`/jobs/${job.job}`))),
      " ",
      over
        ? button("delete", async () => {
            if (confirm(t("sure", { job: job.title }))) await call("DELETE", `/jobs/${job.job}`);
            await drawJobs();
          })
        : button("cancel", async () => { await call("POST", `/jobs/${job.job}/cancel`); await drawJobs(); }),
    ];
    const line = row(job.title, state(job.state), `${job.ok + job.failed} / ${job.total ?? "?"}`, job.failed, actions);
    line.cells[0].className = "name";
    line.cells[0].title = job.job;
    return line;
  }));
  if (!jobs.length) by("all-jobs").replaceChildren(row(t("no_jobs")));
  const { workers } = await get("/workers");
  by("all-workers").replaceChildren(...workers.map((one) => row(
    one.worker, one.profile, one.peak_rss_mb ? `${Math.round(one.peak_rss_mb)} MB` : "–",
    one.seconds_since_page === null ? "–" : t("ago", { s: Math.round(one.seconds_since_page) }),
  )));
  if (!workers.length) by("all-workers").replaceChildren(row(t("no_workers")));
}

/** The first line; the others when it is opened. */
function folded(lines) {
  if (lines.length < 2) return lines[0] ?? "–";
  const details = document.createElement("details");
  const first = document.createElement("summary");
  first.textContent = lines[0];
  details.append(first, ...lines.slice(1).flatMap((line) => [line, document.createElement("br")]));
  return details;
}

export async function drawModels() {
  const found = await get("/models");
  const detectors = found.models.map((model) => row(
    (model.chosen ? "✓ " : "") + model.name, model.precision, (model.bytes / 1e6).toFixed(1),
    folded(Object.entries(model.scores).map(([on, value]) => `${on} ${value}`)),
  ));
  const readers = found.readers.map((one) => row(one.name, "fp32", (one.bytes / 1e6).toFixed(1), t("reads")));
  by("all-models").replaceChildren(...detectors, ...readers);
  by("tune-command").textContent = "ocr-detector train --data my-pages --epochs 5 --batch-size 8 --lr 0.007 -o run\nocr-detector export run/best.pt";
}

let chooses = false;

/** The form and the table of exports; whether one of them still runs. */
export async function drawExports() {
  const [found, { exports }] = await Promise.all([get("/models"), get("/exports")]);
  const names = found.models.map((model) => model.name);
  if (!chooses) by("export-model").replaceChildren(...names.map((name) => new Option(name)));
  chooses = true;
  for (const field of by("export-form").elements) field.disabled = !found.can_export;
  by("export-note").textContent = found.can_export ? "" : t("no_torch");
  by("all-exports").replaceChildren(...exports.map((one) => {
    const actions = [button("delete", async () => { await call("DELETE", `/exports/${one.export}`); await drawExports(); })];
    if (one.state === "done") {
      for (const kind of ["onnx", "json"]) {
        const anchor = document.createElement("a");
        anchor.href = `${BASE}/exports/${one.export}/${kind}`;
        anchor.download = "";
        anchor.className = "button";
        anchor.textContent = kind;
        actions.push(" ", anchor);
      }
    } else if (one.state === "running") {
      actions.unshift(document.createElement("progress"), " ");
    }
    const size = one.bytes ? `${(one.bytes / 1e6).toFixed(1)} MB` : "";
    const line = row(
      one.model, `${one.size} × ${one.size}`, state(one.state), one.seconds === null ? "" : t("in_s", { s: one.seconds }),
      size, one.state === "failed" ? one.said : "", actions,
    );
    line.cells[0].className = "name";
    line.cells[5].className = "reason";
    return line;
  }));
  return exports.some((one) => one.state === "running");
}

export async function startExport() {
  say(null);
  const model = encodeURIComponent(by("export-model").value);
  await call("POST", `/models/${model}/export?size=${by("export-size").value}`);
}

export async function drawLimits() {
  const { limits } = await get("/models");
  by("limits").textContent = t("limits", { files: limits.files, mb: limits.file_mb });
}
