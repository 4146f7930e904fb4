"use strict";

/** Draw the name of the run, the privacy note and the tiles. */
function drawHead() {
  const { run, cases } = report;
  const folder = document.querySelector('script[id^="volumes/"]') ? "" : ` and its folder ${report.folder}`;
  writeHead([
    run.model && `model ${run.model}`,
    run.manifest && `manifest ${run.manifest}`,
    run.started && `started ${run.started.replace("T", " ").slice(0, 16)} UTC`,
    run.version && `voxtile ${run.version}`,
    run.engine && `engine ${run.engine}`,
  ], `This page${folder} may contain scans, masks and identifiers of patients.`,
  `${countOfCases(cases.length)}. Viewer: NiiVue, BSD-2-Clause.`);
  byId("verdict").replaceChildren(...run.verdict.map((line) => make("p", {}, line)));
  byId("methods").textContent = run.methods;
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
          report.flags[entry.code] && make("p", {}, report.flags[entry.code]),
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
