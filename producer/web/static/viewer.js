// One page: the browser's own picture, and its boxes as SVG above it.
import { t } from "/static/i18n.js";

const SVG = "http://www.w3.org/2000/svg";
const stage = document.getElementById("stage");
const boxText = document.getElementById("box-text");
const note = document.getElementById("viewer-note");
let zoom = 1;
let least = 0;
let shown = null;
let address = "";

const isPaged = (name) => /\.(pdf|tiff?|jp2|zip|cbz)(\/|$)/i.test(name);

/** Shows a record over its file, if the browser has that. */
export function show(record, file) {
  if (address) URL.revokeObjectURL(address);
  address = "";
  shown = record;
  stage.replaceChildren();
  note.textContent = "";
  boxText.textContent = "";
  if (!record || !record.width) return;
  const sheet = document.createElement("div");
  sheet.className = "sheet";
  sheet.style.aspectRatio = `${record.width} / ${record.height}`;
  const isWhole = file && !isPaged(record.image);
  if (isWhole) {
    const picture = document.createElement("img");
    address = URL.createObjectURL(file);
    picture.src = address;
    picture.alt = record.image;
    sheet.append(picture);
  } else {
    note.textContent = t("no_picture", { why: t(file || isPaged(record.image) ? "why_paged" : "why_other") });
  }
  sheet.append(drawBoxes(record));
  stage.append(sheet);
  applyZoom();
  filter(least);
}

function drawBoxes(record) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", `0 0 ${record.width} ${record.height}`);
  drawing.setAttribute("preserveAspectRatio", "none");
  for (const box of record.boxes) {
    const shape = document.createElementNS(SVG, "polygon");
    shape.setAttribute("points", (box.polygon || box.points).map((point) => point.join(",")).join(" "));
    shape.setAttribute("tabindex", "0");
    shape.dataset.score = box.score;
    const [[x0, y0], [x1, y1], , [x3, y3]] = box.points;
    const size = { w: Math.round(Math.hypot(x1 - x0, y1 - y0)), h: Math.round(Math.hypot(x3 - x0, y3 - y0)) };
    const text = t("score_box", { score: box.score.toFixed(2), ...size });
    shape.setAttribute("aria-label", text);
    for (const event of ["mouseenter", "focus"]) shape.addEventListener(event, () => (boxText.textContent = text));
    shape.addEventListener("mouseleave", tellCount);
    drawing.append(shape);
  }
  return drawing;
}

/** Hides boxes with a lower score; at once, without asking the server. */
export function filter(score) {
  least = score;
  for (const shape of stage.querySelectorAll("polygon")) {
    shape.classList.toggle("low", Number(shape.dataset.score) < least);
  }
  tellCount();
}

function tellCount() {
  if (!shown) return;
  const all = shown.boxes.length;
  const count = shown.boxes.filter((box) => box.score >= least).length;
  boxText.textContent = all ? t("boxes_of", { shown: count, all }) : shown.status === "ok" ? t("nothing") : "";
}

function applyZoom() {
  const sheet = stage.firstElementChild;
  if (sheet) sheet.style.width = `${Math.round(zoom * 100)}%`;
}

export function zoomBy(factor) {
  zoom = factor ? Math.min(8, Math.max(0.25, zoom * factor)) : 1;
  applyZoom();
}

stage.addEventListener("keydown", (event) => {
  const factor = { "+": 1.25, "=": 1.25, "-": 0.8, 0: 0 }[event.key];
  if (factor !== undefined) zoomBy(factor);
});
stage.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  zoomBy(event.deltaY < 0 ? 1.1 : 0.9);
}, { passive: false });
document.getElementById("zoom-in").addEventListener("click", () => zoomBy(1.25));
document.getElementById("zoom-out").addEventListener("click", () => zoomBy(0.8));
document.getElementById("zoom-fit").addEventListener("click", () => zoomBy(0));
