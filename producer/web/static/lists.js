// The tables of jobs, workers and models.
import { call, get, say } from "/static/api.js";
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

export async function drawModels() {
  const found = await get("/models");
  const detectors = found.models.map((model) => row(
    (model.chosen ? "✓ " : "") + model.name, model.precision, (model.bytes / 1e6).toFixed(1),
    Object.entries(model.scores).map(([on, value]) => `${on} ${value}`).join("; ") || "–",
  ));
  const readers = found.readers.map((one) => row(one.name, "fp32", (one.bytes / 1e6).toFixed(1), t("reads")));
  by("all-models").replaceChildren(...detectors, ...readers);
  by("tune-command").textContent = "ocr-detector train --data my-pages --epochs 5 --batch-size 8 --lr 0.007 -o run\nocr-detector export run/best.pt";
}

export async function drawLimits() {
  const { limits } = await get("/models");
  by("limits").textContent = t("limits", { files: limits.files, mb: limits.file_mb });
}
