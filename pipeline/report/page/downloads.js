"use strict";

// What the style sheet gives to a mark of a plot, which a file has to say itself.
const STYLES = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "opacity",
  "font-family", "font-size", "font-weight", "text-anchor"];
const SCALE = 3; // pixels of a PNG for each pixel of the page

/** A plot as the text of an SVG file that needs no style sheet. */
function svgText(plot) {
  const copy = plot.cloneNode(true);
  const [, , width, height] = plot.getAttribute("viewBox").split(" ").map(Number);
  const all = [plot, ...plot.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, index) => {
    const style = getComputedStyle(all[index]);
    for (const name of STYLES) element.setAttribute(name, style.getPropertyValue(name));
    for (const name of ["class", "tabindex"]) element.removeAttribute(name);
  });
  const paper = makeSvg("rect", { width, height, fill: getComputedStyle(plot.closest(".panel")).backgroundColor });
  copy.prepend(paper);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  return new XMLSerializer().serializeToString(copy);
}

/** A plot as a PNG file. */
async function pngOf(plot) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgText(plot))}`;
  await image.decode();
  const canvas = make("canvas", { width: image.width * SCALE, height: image.height * SCALE });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Rows of text of an HTML table. */
function rowsOfTable(table) {
  return [...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim()));
}

/** The values of the filtered cases in these columns, with all digits. */
function rowsOfColumns(chosen) {
  return [chosen.map(titleOf), ...tableOrder().map((one) => chosen.map((column) => column.get(one)))];
}

/** What each panel can save: its plot, and the rows of its CSV file. */
const DOWNLOADS = {
  distribution: { plot: true, rows: () => rowsOfColumns(columns.filter((column) =>
    ["id", byId("by").value].includes(column.id) || (column.label &&
      [byId("metric").value, byId("by").value.replace("metric/", "")].includes(column.key)))) },
  volumes: { plot: true, rows: () => rowsOfColumns(columns.filter((column) =>
    column.id === "id" || (column.label && column.key.startsWith("volume_ml")))) },
  summary: { rows: () => [report.summary.header, ...report.summary.rows] },
  timings: { rows: () => rowsOfTable(byId("timings").querySelector("table")) },
  cases: { rows: () => rowsOfColumns(shownColumns()) },
};

async function save(name, kind) {
  if (kind === "CSV") {
    return download(`${name}.csv`, new Blob([csvText(DOWNLOADS[name].rows())], { type: "text/csv" }));
  }
  const plot = byId(name).querySelector("svg.chart");
  if (!plot) return undefined;
  if (kind === "PNG") return download(`${name}.png`, await pngOf(plot));
  return download(`${name}.svg`, new Blob([svgText(plot)], { type: "image/svg+xml" }));
}

function startDownloads() {
  for (const place of document.querySelectorAll("[data-download]")) {
    const name = place.dataset.download;
    const kinds = DOWNLOADS[name].plot ? ["SVG", "PNG", "CSV"] : ["CSV"];
    place.replaceChildren(...kinds.map((kind) =>
      make("button", { type: "button", class: "link", "aria-label": `Download ${DOWNLOADS[name].title ?? name} as ${kind}`,
        click: () => save(name, kind) }, kind)));
  }
}
