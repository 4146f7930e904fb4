"use strict";

/** The case that is open, and the order in which Previous and Next walk. */
const open = { one: null };

/** Open a case: the viewer or its sections, and its numbers beside them. */
function openCase(caseId) {
  const one = report.cases.find((candidate) => candidate.id === caseId);
  if (!one) return;
  open.one = one;
  hideTooltip();
  const dialog = byId("case");
  byId("case-title").textContent = one.id;
  byId("case-facts").textContent = factsOf(one).join(" · ");
  byId("case-side").replaceChildren(...sideOf(one));
  byId("case-sections").replaceChildren();
  byId("location").textContent = "";
  if (!dialog.open) dialog.showModal();
  byId("case-body").scrollTop = 0;
  history.replaceState(null, "", `#case=${encodeURIComponent(one.id)}`);
  look(one);
}

/** Show the pictures of a case. */
async function look(one) {
  const state = byId("viewer-state");
  byId("viewer").hidden = true;
  if (!one.pictures) {
    state.textContent = whyNoPictures(one);
    showMontage(one);
    return;
  }
  state.textContent = "Loading the volumes…";
  try {
    if (!document.createElement("canvas").getContext("webgl2")) {
      throw new Error("this browser does not support WebGL 2");
    }
    if (await showVolumes(one)) document.body.dataset.shown = one.id;
  } catch (error) {
    if (open.one !== one) return;
    byId("viewer").hidden = true;
    state.textContent = `The viewer cannot be shown: ${error.message}.`;
  }
  if (open.one === one) showMontage(one);
}

async function showMontage(one) {
  const montage = await montageOf(one);
  if (open.one === one && montage) byId("case-sections").replaceChildren(montage);
}

/** The picture of a case: sections, else the PNG that the run drew, else null. */
async function montageOf(one) {
  if (one.pictures) {
    try {
      return drawSections(await load("sections", one.id), `Case ${one.id}`);
    } catch (error) {
      return make("p", { class: "muted" }, `${error.message}.`);
    }
  }
  if (!one.montage) return null;
  return make("img", { src: one.montage, class: "montage", loading: "lazy",
    alt: `Sections of case ${one.id} with the contours of its masks` });
}

function whyNoPictures(one) {
  if (one.status === "failed") return "There are no pictures, because the case failed.";
  if (one.problem) return `There are no pictures: ${one.problem}`;
  return "The pictures of this case have not been made. To make them, run: " +
    "voxtile report DIR --manifest MANIFEST --cases all";
}

function factsOf(one) {
  const facts = [statusOf(one)];
  if (one.shape) facts.push(`${one.shape.join(" × ")} voxels`);
  if (one.spacing_mm) {
    facts.push(`${one.spacing_mm.map((mm) => Number(mm.toPrecision(3))).join(" × ")} mm`);
  }
  return facts;
}

/** The numbers of a case: reason, labels with scores, reasons to look, warnings, metrics, timings. */
function sideOf(one) {
  return [
    one.reason && notice("Failed", [one.reason], "bad"),
    legendOf(one),
    one.look.length ? notice("Reasons to look", one.look, "caution") : null,
    one.warnings.length ? notice("Warnings", one.warnings, "caution") : null,
    metricsOf(one),
    valuesOf(one),
    timingsOf(one),
  ].filter(Boolean);
}

function notice(title, pairs, kind) {
  return make("section", { class: `notice ${kind}` }, make("h3", {}, title),
    make("ul", {}, pairs.map(([code, sentence]) =>
      make("li", {}, make("code", {}, code), ` ${sentence}`))));
}

/** The labels, each with a check box, its colour, name, Dice and volumes. */
function legendOf(one) {
  const keys = ["dice", "volume_ml_pred", "volume_ml_ref"].filter((key) => columnsOf(key).length);
  const short = { dice: "Dice", volume_ml_pred: "Prediction (ml)", volume_ml_ref: "Reference (ml)" };
  const volumes = keys.filter((key) => key.startsWith("volume"));
  const isThere = (position) =>
    volumes.some((key) => columnsOf(key)[position].get(one) > 0);
  const rows = report.labels.map((label, position) => {
    // If there are many labels, only those that the scan has are listed.
    if (report.labels.length > FEW_LABELS && !isThere(position)) return null;
    const box = make("input", { type: "checkbox", checked: !viewer.hidden.has(position),
      change: () => {
        if (box.checked) viewer.hidden.delete(position);
        else viewer.hidden.add(position);
        if (viewer.nv && !byId("viewer").hidden) drawOverlays();
      } });
    return make("tr", {},
      make("th", { scope: "row" },
        make("label", { class: "check" }, one.pictures ? box : null, swatch(label), label.name)),
      keys.map((key) => {
        const column = columnsOf(key)[position];
        return make("td", { class: "number" }, formatCell(column.get(one), column));
      }));
  });
  return make("section", { class: "legend" },
    make("h3", {}, "Labels"),
    make("table", {},
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Label"),
        keys.map((key) => make("th", { scope: "col", class: "number" }, short[key])))),
      make("tbody", {}, rows)));
}

/** The other metrics: one row each, with a column for each label. */
function metricsOf(one) {
  const known = ["dice", "volume_ml_pred", "volume_ml_ref"];
  const rest = report.columns.label.filter((column) => !known.includes(column.key));
  if (!rest.length || one.status === "failed") return null;
  // With many labels the table would be wider than the page, so each label has its own row.
  const few = report.labels.length <= FEW_LABELS;
  const head = make("tr", {}, make("th", { scope: "col" }, "Metric"),
    few
      ? report.labels.map((label) => make("th", { scope: "col", class: "number" }, label.name))
      : [make("th", { scope: "col" }, "Label"), make("th", { scope: "col", class: "number" }, "Value")]);
  const rows = rest.flatMap((metric) => {
    const cells = columnsOf(metric.key).map((column) =>
      make("td", { class: "number" }, formatCell(column.get(one), column)));
    if (few) return [make("tr", {}, make("th", { scope: "row" }, metric.title), cells)];
    return cells.map((cell, position) =>
      make("tr", {}, make("th", { scope: "row" }, metric.title),
        make("td", {}, report.labels[position].name), cell));
  });
  return make("details", few ? { open: true } : {}, make("summary", {}, "All metrics"),
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, rows))));
}

function valuesOf(one) {
  const shown = report.columns.case
    .map((column, place) => [column, one.values[place]])
    .filter(([column, value]) => value !== null && value !== "" && !["seconds", "qc_rank"].includes(column.key));
  if (!shown.length) return null;
  return make("section", {}, make("h3", {}, "From the manifest and the run"),
    make("dl", { class: "pairs" }, shown.map(([column, value]) =>
      [make("dt", {}, column.title), make("dd", {}, formatCell(value, column))])));
}

function timingsOf(one) {
  const stages = Object.entries(one.timings);
  if (!stages.length) return null;
  return make("details", {}, make("summary", {}, "Timings"),
    make("dl", { class: "pairs" }, stages.map(([stage, seconds]) =>
      [make("dt", {}, stage.replaceAll("_", " ")), make("dd", {}, `${formatNumber(seconds)} s`)]),
    one.memory_mb === null ? [] :
      [make("dt", {}, "peak memory"), make("dd", {}, `${grouped(one.memory_mb, 0)} MB`)]));
}

/** Open the next or previous case, in the order of the table. */
function walk(step) {
  const order = tableOrder();
  const place = order.findIndex((one) => one === open.one);
  const next = order[place + step] ?? (place < 0 ? order[0] : null);
  if (next) openCase(next.id);
}

function startCase() {
  const dialog = byId("case");
  byId("close-case").addEventListener("click", () => dialog.close());
  byId("previous-case").addEventListener("click", () => walk(-1));
  byId("next-case").addEventListener("click", () => walk(1));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });
  dialog.addEventListener("close", () => {
    viewer.request++;
    open.one = null;
    history.replaceState(null, "", location.pathname + location.search);
  });
  const linked = /^#case=(.+)$/.exec(location.hash);
  if (linked) openCase(decodeURIComponent(linked[1]));
}
