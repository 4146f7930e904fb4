"use strict";

/** Columns of summary.csv that hold text. */
const TEXT_COLUMNS = ["view", "run_b", "metric", "label_name", "worst_case", "by", "by_value"];
// Up to this many rows a comparison shows all metrics.
const MOST_ROWS = 40;
// Columns of a summary for people, in their order there; others are in the file alone.
const SUMMARY_TITLES = {
  view: "View", run_b: "Run (B)", metric: "Metric", label_name: "Label", n: "Cases", n_used: "With a value",
  n_failed: "Failed", n_empty: "Empty masks", mean_a: "Mean A", mean_b: "Mean B", mean: "Mean",
  mean_difference: "Mean B - A", interval: "95 % CI of the mean", sd: "SD", median: "Median",
  median_difference: "Median B - A", q1: "Q1", q3: "Q3", wins: "Wins of B", ties: "Ties",
  losses: "Losses of B", p: "p", p_holm: "p (Holm)", worst: "Worst", worst_case: "Worst case",
  by: "Column", by_value: "Value",
};

/** Draw the rows of the summary of the chosen metric. */
function drawSummary() {
  const { header, rows } = report.summary;
  byId("summary-panel").hidden = !rows.length;
  if (!rows.length) return;
  const at = (name) => header.indexOf(name);
  const column = columnsOf(byId("metric").value)[0];
  const metric = column?.metric ?? column?.key;
  const all = report.runs && rows.length <= MOST_ROWS; // a comparison has few rows
  const chosen = rows.filter((row) => all || row[at("metric")] === metric);
  const hasGroups = chosen.some((row) => row[at("by")]);
  const shown = header.filter((name) =>
    name in SUMMARY_TITLES && (name !== "metric" || all) &&
    (report.runs?.length !== 2 || name !== "run_b") &&
    (hasGroups || !["by", "by_value"].includes(name)));
  // The interval stands beside its mean, where it is not scrolled out of sight.
  shown.splice(shown.findIndex((name) => ["mean", "mean_difference"].includes(name)) + 1, 0, "interval");
  const whole = (name) => /^(n(_.*)?|wins|ties|losses)$/.test(name);
  const cell = (row, name) => {
    if (name === "interval") {
      const ends = ["ci_low", "ci_high"].map((end) => formatNumber(row[at(end)]));
      return make("td", { class: "number" }, ends[0] === "–" ? "–" : ends.join(" to "));
    }
    const value = row[at(name)];
    if (name === "label_name") {
      const label = report.labels.find((one) => one.value === row[at("label")]);
      return make("th", { scope: "row" }, label ? swatch(label) : null, String(value));
    }
    if (name === "worst_case" && value !== null) {
      return make("td", {}, make("button", { type: "button", class: "link",
        click: () => openCase(String(value)) }, String(value)));
    }
    if (name === "metric") return make("td", {}, report.metrics[value]);
    if (TEXT_COLUMNS.includes(name)) return make("td", {}, value === null ? "" : String(value));
    const text = typeof value !== "number" ? formatNumber(value)
      : whole(name) ? grouped(value, 0) : /^p(_|$)/.test(name) ? formatP(value) : formatNumber(value);
    return make("td", { class: "number" }, text);
  };
  byId("summary").replaceChildren(chosen.length
    ? make("table", {},
      make("thead", {}, make("tr", {}, shown.map((name) =>
        make("th", { scope: "col", class: TEXT_COLUMNS.includes(name) ? "" : "number" },
          SUMMARY_TITLES[name])))),
      make("tbody", {}, chosen.map((row) => make("tr", {}, shown.map((name) => cell(row, name))))))
    : make("p", { class: "muted" }, "There is no summary of this metric."));
}

/** A p value for people. */
function formatP(value) {
  return value < 1e-4 ? "< 0.0001" : value.toFixed(4);
}
