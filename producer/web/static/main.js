// The page: its tabs, its language, and what belongs together.
import { get, say } from "/static/api.js";
import { onFiles } from "/static/choose.js";
import { nextLanguageName, otherLanguage, translate } from "/static/i18n.js";
import { begin, openJob } from "/static/job.js";
import { drawExports, drawJobs, drawLimits, drawModels, startExport } from "/static/lists.js";

const JOBS_EVERY_MS = 3000;
const EXPORTS_EVERY_MS = 1000;
const language = document.getElementById("language");
let refreshing = 0;
let drawing = null;

/** Draws the list of jobs, unless it is still waited for: where the broker is slow, each would wait for one more. */
const refresh = () => (drawing ??= drawJobs().catch(say).finally(() => { drawing = null; }));

function showTab() {
  const [tab] = (location.hash.slice(1) || "detect").split("/");
  for (const main of document.querySelectorAll(".tab")) main.hidden = main.id !== tab;
  for (const anchor of document.querySelectorAll("nav a")) {
    if (anchor.hash === `#${tab}`) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  clearInterval(refreshing);
  if (tab === "jobs") {
    refresh();
    refreshing = setInterval(() => document.hidden || refresh(), JOBS_EVERY_MS);
  }
  if (tab === "models") {
    drawModels().catch(say);
    watchExports();
  }
}

/** Draws the exports again while one of them runs. */
async function watchExports() {
  try {
    if (await drawExports()) setTimeout(() => location.hash === "#models" && watchExports(), EXPORTS_EVERY_MS);
  } catch (problem) {
    say(problem);
  }
}

function speak() {
  language.textContent = nextLanguageName();
  drawLimits().catch(say);
}

language.addEventListener("click", () => { otherLanguage(); speak(); showTab(); });
window.addEventListener("hashchange", showTab);
document.getElementById("export-form").addEventListener("submit", (event) => {
  event.preventDefault();
  startExport().then(watchExports, say);
});
onFiles((files) => { location.hash = "detect"; begin(files); });
translate();
speak();
const [, wanted] = location.hash.split("/");
if (wanted) get(`/jobs/${wanted}`).then(openJob, say);
showTab();
