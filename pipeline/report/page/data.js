"use strict";

/** What the page shows, as it was written into it. */
const report = JSON.parse(byId("report-data").textContent);

/**
 * Every column the table can have: those of a case, then each metric once for
 * each label. `get` returns a case's value, null where there is none.
 */
const columns = [
  { id: "id", title: "Case", numeric: false, get: (one) => one.id },
  { id: "status", title: "Status", numeric: false, get: statusOf },
  {
    id: "lowest", title: "Lowest Dice", numeric: true, better: "higher",
    get: (one) => lowestOf(one)?.value ?? null,
  },
  {
    id: "lowest-label", title: "of label", numeric: false,
    get: (one) => lowestOf(one)?.label.name ?? null,
  },
  ...report.columns.label.flatMap((column, place) =>
    report.labels.map((label, position) => ({
      ...column,
      id: `${column.key}/${label.value}`,
      label,
      get: (one) => (one.labels[position] ? one.labels[position][place + 1] : null),
    })),
  ),
  ...report.columns.case.map((column, place) => ({
    ...column,
    id: `case/${column.key}`,
    get: (one) => one.values[place],
  })),
  { id: "flags", title: "QC flags", numeric: false, get: flagsOf },
  { id: "warnings", title: "Warnings", numeric: true, whole: true, better: "lower",
    get: (one) => one.warnings.length },
];

/** Columns of one metric, in the order of the labels. */
function columnsOf(key) {
  return columns.filter((column) => column.label && column.key === key);
}

/** "failed", "done", or what is odd about one of its labels. */
function statusOf(one) {
  if (one.status === "failed") return "failed";
  const states = new Set(one.labels.filter(Boolean).map((values) => values[0]));
  states.delete("ok");
  states.delete("both_empty");
  return states.size ? [...states].join(", ").replaceAll("_", " ") : "done";
}

/** The label of a case with the lowest Dice, and that; null where none has one. */
function lowestOf(one) {
  return dicesOf(one)[0] ?? null;
}

/** Labels of a case with their Dice, the lowest first. */
function dicesOf(one) {
  return columnsOf("dice")
    .map((column) => ({ label: column.label, value: column.get(one) }))
    .filter(({ value }) => typeof value === "number")
    .sort((a, b) => a.value - b.value);
}

/** Above this, one column for each label is more than a person reads. */
const FEW_LABELS = 4;

/** Codes of a case's flags, each once, the most severe first. */
function flagsOf(one) {
  return [...new Set(one.flags.map(([code]) => code))].join(", ");
}

/** A number for people: enough digits to tell cases apart, never more than it has. */
function formatNumber(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  return grouped(value, size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3);
}

/** A whole number of things, such as voxels, has no decimals; a Dice of 1 is 1.000. */
function formatCell(value, column) {
  if (value === null || value === undefined || value === "") return "–";
  if (!column.numeric) return String(value);
  return column.whole ? grouped(value, 0) : formatNumber(value);
}

function grouped(value, digits) {
  return value.toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** Value at a fraction of sorted numbers, between neighbours (as NumPy and pandas do). */
function quantile(sorted, fraction) {
  const place = (sorted.length - 1) * fraction;
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

/** What the filters let through; `onFilter` tells everybody who shows cases. */
const selection = { cases: report.cases, listeners: [] };

function onFilter(listener) {
  selection.listeners.push(listener);
}

function select(cases) {
  selection.cases = cases;
  for (const listener of selection.listeners) listener();
}
