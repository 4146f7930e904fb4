"use strict";

/** The case that is open, and functions that are called with it, and when it is closed. */
const open = { one: null, shown: [], closed: [] };

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
  for (const show of open.shown) show(one);
  if (!dialog.open) {
    dialog.showModal();
    byId("case-body").focus();
  }
  byId("case-body").scrollTop = 0;
  writeAddress();
  byId("viewer-state").textContent = "";
  if (byId("viewer")) look(one);
}

/** Show the pictures of a case. */
async function look(one) {
  const state = byId("viewer-state");
  byId("location").textContent = "";
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
    if (await showVolumes(one)) {
      document.body.dataset.shown = one.id;
      // Keys go to the slices, unless another control has the focus.
      if (["case", "case-body", ""].includes(document.activeElement.id)) byId("canvas").focus();
    }
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
      return drawCase(await load("sections", one.id), `Case ${one.id}`);
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
  return `The pictures of this case have not been made. To make them, run: ${report.how}`;
}

function factsOf(one) {
  const facts = report.own.includes("status") ? [statusOf(one)] : [];
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
    one.links?.length ? linksOf(one) : null,
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
      make("li", {}, make("code", { title: report.flags[code] }, code), ` ${sentence}`))));
}

/** Links to other pages of a case. */
function linksOf(one) {
  return make("section", {}, make("h3", {}, "This case on other pages"),
    make("ul", { class: "links" }, one.links.map(([name, href]) =>
      make("li", {}, make("a", { href }, name)))));
}

/** The labels, each with a check box, its colour, name, Dice and volumes. */
function legendOf(one) {
  const short = new Map(report.legend);
  const keys = [...short.keys()].filter((key) => columnsOf(key).length);
  const volumes = keys.filter((key) => key.startsWith("volume"));
  const isThere = (position) =>
    volumes.some((key) => columnsOf(key)[position].get(one) > 0);
  const rows = report.labels.map((label, position) => {
    // If there are many labels, only those that the scan has are listed.
    if (report.labels.length > FEW_LABELS && !isThere(position)) return null;
    const box = one.pictures && make("input", { type: "checkbox", checked: !viewer.hidden.has(position),
      change: () => {
        if (box.checked) viewer.hidden.delete(position);
        else viewer.hidden.add(position);
        if (viewer.nv && !byId("viewer").hidden) drawOverlays();
      } });
    return make("tr", {},
      make("th", { scope: "row" },
        make("label", { class: "check" }, box || null, swatch(label), label.name)),
      keys.map((key) => {
        const column = columnsOf(key)[position];
        return make("td", { class: "number" }, formatCell(column.get(one), column));
      }));
  });
  return make("section", { class: "legend" },
    make("h3", {}, "Labels"),
    make("table", {},
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Label"),
        keys.map((key) => make("th", { scope: "col", class: "number" }, short.get(key))))),
      make("tbody", {}, rows)));
}

/** The other metrics: one row each, with a column for each label. */
function metricsOf(one) {
  const known = report.legend.map(([key]) => key);
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
    const name = () => make("th", { scope: "row", title: metric.about }, metric.title);
    if (few) return [make("tr", {}, name(), cells)];
    return cells.map((cell, position) =>
      make("tr", {}, name(),
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
    for (const close of open.closed) close();
    open.one = null;
    writeAddress();
  });
}
