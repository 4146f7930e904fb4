"use strict";

// With more values than this a column is not divided into groups.
const MOST_GROUPS = 12;

/** List the metrics that can be plotted, Dice first if there is one, and what they can depend on. */
function fillMetrics() {
  const metric = byId("metric");
  const numeric = report.columns.label.filter((column) => column.numeric);
  metric.replaceChildren(...numeric.map((column) => make("option", { value: column.key }, column.title)));
  const wanted = [report.metric, "dice", "volume_ml_pred"].find((key) => numeric.some((one) => one.key === key));
  if (wanted) metric.value = wanted;
  metric.addEventListener("change", () => {
    drawMetric();
    drawSummary();
  });
  fillMetrics.ways = [
    ...columns.filter((column) => !column.label && (isAxis(column) || isGroups(column)))
      .map((column) => ({ ...column, of: () => column, axis: isAxis(column) })),
    ...numeric.map(({ key, title }) =>
      ({ id: `metric/${key}`, key, title, of: (position) => columnsOf(key)[position], axis: true })),
  ];
  byId("by").replaceChildren(make("option", { value: "" }, "nothing"),
    ...fillMetrics.ways.map(({ id, title: name }) => make("option", { value: id }, name)));
  byId("by").addEventListener("change", drawMetric);
}

function titleOf(column) {
  return column.label ? `${column.title}, ${column.label.name}` : column.title;
}

/** The number in a cell; cells of a manifest are text. null if it is none. */
function numberIn(value) {
  if (value === null || value === undefined || String(value).trim() === "") return null;
  return Number.isFinite(Number(value)) ? Number(value) : null;
}

/** Whether all values of a column are numbers, so that it can be an axis. */
function isAxis(column) {
  const values = new Set(report.cases.map(column.get).filter((value) => value !== null && value !== ""));
  return values.size > 1 && [...values].every((value) => numberIn(value) !== null);
}

/** Whether a column divides the cases into few groups. */
function isGroups(column) {
  if (column.label || column.numeric || column.id === "id") return false;
  const values = new Set(report.cases.map(column.get));
  return values.size > 1 && values.size <= MOST_GROUPS;
}

/** Draw the chosen metric: as a whole, for each value of a column, or against its numbers. */
function drawMetric() {
  const chosen = columnsOf(byId("metric").value);
  const by = fillMetrics.ways.find(({ id }) => id === byId("by").value);
  const title = chosen[0]?.title ?? "";
  if (by?.axis) drawAgainst(by, chosen, title);
  else drawDistribution(byId("distribution"), rowsOf(chosen, by), title, chosen[0]?.change);
  const hasInterval = byId("distribution").querySelector(".interval");
  const about = chosen[0]?.about ? `${title}: ${chosen[0].about} ` : "";
  byId("distribution-key").textContent =
    `${about}${by?.axis ? "" : "Box: quartiles and median; points: cases. "}` +
    `${hasInterval ? "Diamond: mean of all cases with its 95 % confidence interval." : ""}`;
}

/** The rows of the plot: one for each label, or for each label and value of a column. */
function rowsOf(chosen, by) {
  const groups = by ? [...new Set(selection.cases.map(by.get))]
    .sort((a, b) => String(a).localeCompare(String(b), "en", { numeric: true })) : [null];
  return chosen.flatMap((column) => groups.map((group) => ({
    name: by ? `${column.label.name}, ${formatCell(group, by)}` : column.label.name,
    color: column.label.color,
    interval: by ? null : intervalOf(column),
    points: selection.cases
      .filter((one) => !by || by.get(one) === group)
      .map((one) => ({ id: one.id, value: column.get(one) }))
      .filter((point) => typeof point.value === "number")
      .map((point) => ({
        ...point,
        text: `${point.id}, ${column.label.name}: ${formatCell(point.value, column)}`,
      })),
  })));
}

/** The mean and its interval from the summary, which are of all cases; null if cases are filtered. */
function intervalOf({ key, metric = key, change, label }) {
  if (report.runs && !change) return null; // only changes are summarised
  if (selection.cases.length !== report.cases.length) return null;
  const { header, rows } = report.summary;
  const at = (row, name) => row[header.indexOf(name)];
  const row = rows.find((one) =>
    at(one, "metric") === metric && at(one, "label") === label.value && !at(one, "by") &&
    (!change || at(one, "run_b") === change));
  const names = [change ? "mean_difference" : "mean", "ci_low", "ci_high"];
  const [mean, low, high] = row ? names.map((name) => at(row, name)) : [];
  return [mean, low, high].every((value) => typeof value === "number") ? { mean, low, high } : null;
}

/** Draw the metric of each label against the numbers of a column. */
function drawAgainst(by, chosen, title) {
  const points = chosen.flatMap((column, position) => selection.cases
    .map((one) => ({ id: one.id, x: numberIn(by.of(position).get(one)), y: column.get(one) }))
    .filter((point) => point.x !== null && typeof point.y === "number")
    .map((point) => ({
      ...point, color: column.label.color, shape: position,
      text: `${point.id}, ${column.label.name}: ${formatCell(point.y, column)}, ` +
        `${by.title} ${formatNumber(point.x)}`,
    })));
  drawScatter(byId("distribution"), thinned(points),
    { x: by.title, y: title, none: "No case has both values.",
      same: byId("metric").value === "dice" && by.key?.startsWith("dice_") });
}

/** With so many marks, every n-th gives the same picture. */
function thinned(points) {
  const step = Math.ceil(points.length / 4000);
  return points.filter((_, index) => index % step === 0);
}
