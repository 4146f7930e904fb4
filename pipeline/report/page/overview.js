"use strict";

/** Draw the name of the run, the privacy note and the tiles. */
function drawHead() {
  const { run, cases } = report;
  byId("run-name").textContent = run.name;
  byId("run-facts").textContent = [
    run.model && `model ${run.model}`,
    run.manifest && `manifest ${run.manifest}`,
    run.started && `started ${run.started.replace("T", " ").slice(0, 16)} UTC`,
    run.version && `voxtile ${run.version}`,
    run.engine && `engine ${run.engine}`,
  ].filter(Boolean).join(" · ");
  const folder = document.querySelector('script[id^="volumes/"]') ? "" : ` and its folder ${report.folder}`;
  byId("verdict").replaceChildren(...run.verdict.map((line) => make("p", {}, line)));
  byId("methods").textContent = run.methods;
  byId("privacy-text").textContent =
    `This page${folder} may contain scans, masks and identifiers of patients. ` +
    "Store and share it as carefully as the scans themselves.";
  byId("footer").textContent =
    `${countOfCases(cases.length)}. Viewer: NiiVue, BSD-2-Clause. ` +
    "For research only; this is not a medical device.";
  const failed = cases.filter((one) => one.status === "failed").length;
  const warned = cases.filter((one) => one.warnings.length).length;
  const flagged = cases.filter((one) => one.flags.length).length;
  const seconds = cases.map(secondsOf).filter((value) => value !== null).sort((a, b) => a - b);
  const tiles = [
    ["Cases", grouped(cases.length, 0)],
    ["Failed", grouped(failed, 0), failed ? "bad" : "good"],
    ["Cases with warnings", grouped(warned, 0), warned ? "caution" : null],
    ["Cases with QC flags", grouped(flagged, 0), flagged ? "caution" : null],
    ...(report.labels.length > FEW_LABELS
      ? columns.filter((column) => column.id === "lowest")
      : columnsOf("dice")).map((column) => {
      const values = valuesIn(column, cases);
      const name = column.label ? `Median Dice, ${column.label.name}` : "Median lowest Dice";
      return values.length ? [name, formatNumber(quantile(values, 0.5))] : null;
    }),
    seconds.length ? ["Median duration (s)", formatNumber(quantile(seconds, 0.5))] : null,
  ].filter(Boolean);
  byId("tiles").replaceChildren(...tiles.map(([name, value, kind]) =>
    make("div", { class: kind ? `tile ${kind}` : "tile" }, make("dt", {}, name), make("dd", {}, value))));
}

/** Sorted values of a column, without those that are missing. */
function valuesIn(column, cases) {
  return cases
    .map(column.get)
    .filter((value) => typeof value === "number")
    .sort((a, b) => a - b);
}

function secondsOf(one) {
  const place = report.columns.case.findIndex((column) => column.key === "seconds");
  return place < 0 ? null : one.values[place];
}

/** List the metrics that can be plotted; Dice is chosen if there is one. */
function fillMetrics() {
  const metric = byId("metric");
  const numeric = report.columns.label.filter((column) => column.numeric);
  metric.replaceChildren(...numeric.map((column) => make("option", { value: column.key }, column.title)));
  const wanted = ["dice", "volume_ml_pred"].find((key) => numeric.some((one) => one.key === key));
  if (wanted) metric.value = wanted;
  metric.addEventListener("change", () => {
    drawMetric();
    drawSummary();
  });
}

function drawMetric() {
  const key = byId("metric").value;
  const rows = columnsOf(key).map((column) => ({
    name: column.label.name,
    color: column.label.color,
    points: selection.cases
      .map((one) => ({ id: one.id, value: column.get(one) }))
      .filter((point) => typeof point.value === "number")
      .map((point) => ({
        ...point,
        text: `${point.id}, ${column.label.name}: ${formatCell(point.value, column)}`,
      })),
  }));
  drawDistribution(byId("distribution"), rows);
}

function drawVolumes() {
  const pairs = columnsOf("volume_ml_ref").map((column, position) => [
    column, columnsOf("volume_ml_pred")[position], position,
  ]);
  byId("volume-panel").hidden = !pairs.length;
  const points = pairs.flatMap(([x, y, position]) =>
    selection.cases
      .map((one) => ({ id: one.id, x: x.get(one), y: y.get(one) }))
      .filter((point) => point.x !== null && point.y !== null)
      .map((point) => ({
        ...point,
        color: x.label.color,
        shape: position,
        text: `${point.id}, ${x.label.name}: prediction ${formatNumber(point.y)} ml, ` +
          `reference ${formatNumber(point.x)} ml`,
      })));
  byId("volume-labels").replaceChildren(...pairs.slice(0, 6).map(([{ label }, , position]) =>
    make("span", {}, makeSvg("svg", { viewBox: "-5 -5 10 10", "aria-hidden": "true" },
      makeSvg("path", { d: SHAPES[position % SHAPES.length], fill: label.color })), label.name)));
  // With so many marks, every n-th gives the same picture.
  const step = Math.ceil(points.length / 4000);
  drawScatter(byId("volumes"), points.filter((_, index) => index % step === 0),
    { x: "Reference (ml)", y: "Prediction (ml)" });
}

/** Count the cases with each reason, flag or warning; a button filters by it. */
function drawFindings() {
  const counts = new Map();
  const count = (code, sentence, kind) => {
    const entry = counts.get(code) ?? { code, sentence, kind, cases: 0 };
    entry.cases++;
    counts.set(code, entry);
  };
  for (const one of report.cases) {
    if (one.reason) count(...one.reason, "failed");
    const codes = new Set();
    const once = ([code, sentence], kind) => {
      if (!codes.has(code)) count(code, sentence, kind);
      codes.add(code);
    };
    for (const flag of one.flags) once(flag, "flag");
    for (const warning of one.warnings) once(warning, "warning");
  }
  const kinds = ["failed", "flag", "warning"];
  const entries = [...counts.values()].sort((a, b) =>
    kinds.indexOf(a.kind) - kinds.indexOf(b.kind) || b.cases - a.cases);
  byId("findings").replaceChildren(
    entries.length
      ? make("ul", { class: "findings" }, entries.map((entry) =>
        make("li", {},
          make("button", { type: "button", class: "code", click: () => filterByText(entry.code) }, entry.code),
          make("span", { class: `badge ${entry.kind === "failed" ? "bad" : "caution"}` },
            `${entry.kind}: ${countOfCases(entry.cases)}`),
          make("p", { class: "muted" }, entry.cases > 1 ? `For example: ${entry.sentence}` : entry.sentence))))
      : make("p", { class: "muted" }, "No case failed, and no case has a flag or a warning."),
  );
}

/** Draw the median and the 95th percentile of the duration of each stage. */
function drawTimings() {
  const stages = new Map();
  for (const one of selection.cases) {
    for (const [stage, seconds] of Object.entries(one.timings)) {
      if (!stages.has(stage)) stages.set(stage, []);
      stages.get(stage).push(seconds);
    }
  }
  const rows = [...stages].map(([stage, seconds]) => {
    const sorted = seconds.sort((a, b) => a - b);
    return { stage, median: quantile(sorted, 0.5), late: quantile(sorted, 0.95) };
  });
  const most = Math.max(...rows.map((row) => row.late), 1e-9);
  byId("timings").replaceChildren(rows.length
    ? make("table", { class: "bars" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Stage"), make("td", {}),
        make("th", { scope: "col", class: "number" }, "Median"),
        make("th", { scope: "col", class: "number" }, "95th percentile"))),
      make("tbody", {}, rows.map((row) => make("tr", {},
        make("th", { scope: "row" }, row.stage.replaceAll("_", " ")),
        make("td", { class: "bar" }, bar(row, most)),
        make("td", { class: "number" }, formatNumber(row.median)),
        make("td", { class: "number" }, formatNumber(row.late))))))
    : make("p", { class: "muted" }, "No case has timings."));
}

function bar({ median, late }, most) {
  return makeSvg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    makeSvg("rect", { x: 0, y: 3.5, width: (100 * late) / most, height: 3, class: "late" }),
    makeSvg("rect", { x: 0, y: 1, width: (100 * median) / most, height: 8, class: "usual" }));
}

/** Columns of summary.csv that hold text. */
const TEXT_COLUMNS = ["label_name", "worst_case", "by", "by_value"];

/** Draw the rows of summary.csv of the chosen metric. */
function drawSummary() {
  const { header, rows } = report.summary;
  byId("summary-panel").hidden = !rows.length;
  if (!rows.length) return;
  const at = (name) => header.indexOf(name);
  const chosen = rows.filter((row) => row[at("metric")] === byId("metric").value);
  const hasGroups = chosen.some((row) => row[at("by")]);
  const shown = header.filter((name) =>
    !["label", "metric"].includes(name) && (hasGroups || !["by", "by_value"].includes(name)));
  const whole = (name) => /^n(_|$)/.test(name);
  const cell = (row, name) => {
    const value = row[at(name)];
    if (name === "label_name") {
      const label = report.labels.find((one) => one.value === row[at("label")]);
      return make("th", { scope: "row" }, label ? swatch(label) : null, String(value));
    }
    if (name === "worst_case" && value !== null) {
      return make("td", {}, make("button", { type: "button", class: "link",
        click: () => openCase(String(value)) }, String(value)));
    }
    if (TEXT_COLUMNS.includes(name)) return make("td", {}, value === null ? "" : String(value));
    const text = typeof value === "number" && whole(name) ? grouped(value, 0) : formatNumber(value);
    return make("td", { class: "number" }, text);
  };
  const titles = {
    label_name: "Label", n: "Cases", n_used: "With a value", n_failed: "Failed",
    n_empty: "Empty masks", mean: "Mean", sd: "SD", median: "Median", q1: "Q1", q3: "Q3",
    worst: "Worst", worst_case: "Worst case", ci_low: "95 % CI from", ci_high: "to",
    by: "Column", by_value: "Value",
  };
  byId("summary").replaceChildren(chosen.length
    ? make("table", {},
      make("thead", {}, make("tr", {}, shown.map((name) =>
        make("th", { scope: "col", class: TEXT_COLUMNS.includes(name) ? "" : "number" },
          titles[name] ?? name.replaceAll("_", " "))))),
      make("tbody", {}, chosen.map((row) => make("tr", {}, shown.map((name) => cell(row, name))))))
    : make("p", { class: "muted" }, "summary.csv has no summary of this metric."));
}
