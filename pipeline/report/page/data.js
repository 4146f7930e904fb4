"use strict";

/**
 * The data of the page: `run` with a name, `labels`, `columns`, `cases`, `summary`, and `own`: the
 * columns below that this page has.
 */
const report = JSON.parse(byId("report-data").textContent);
// What a case has, unless the data say otherwise.
const NOTHING = { status: "done", reason: null, flags: [], look: [], warnings: [], timings: {},
  memory_mb: null };
report.cases = report.cases.map((one) => ({ ...NOTHING, ...one }));

/**
 * Every column that the table can have: some columns of the case, each metric once per
 * label, then the other columns of the case. `get` returns the value of a case,
 * null if it is missing.
 */
const columns = [
  { id: "id", title: "Case", numeric: false, get: (one) => one.id },
  { id: "status", title: "Status", numeric: false, get: statusOf },
  { id: "review", title: "Review", numeric: false,
    get: (one) => (reviews.has(one.id) ? decisionOf(one) : null) },
  {
    id: "lowest", title: "Lowest Dice", numeric: true, better: "higher",
    get: (one) => lowestOf(one)?.value ?? null,
  },
  {
    id: "lowest-label", title: "Label of lowest Dice", numeric: false,
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
  { id: "note", title: "Note of the reviewer", numeric: false, get: (one) => reviews.get(one.id)?.note },
].filter((column) => /[/]/.test(column.id) || report.own.includes(column.id));

/** Columns of one metric, in the order of the labels. */
function columnsOf(key) {
  return columns.filter((column) => column.label && column.key === key);
}

const STATES = {
  pred_empty: "prediction empty", ref_empty: "reference empty", no_reference: "no reference",
};

/** "failed", "done", or the status of its labels if one of them is not ok. */
function statusOf(one) {
  if (one.status === "failed") return "failed";
  const states = new Set(one.labels.filter(Boolean).map((values) => values[0]));
  states.delete("ok");
  states.delete("both_empty");
  return states.size ? [...states].map((state) => STATES[state] ?? state).join(", ") : "done";
}

/** The label of a case with the lowest Dice, and its Dice; null without any Dice. */
function lowestOf(one) {
  return dicesOf(one)[0] ?? null;
}

/** The labels of a case with their Dice, the lowest first. */
function dicesOf(one) {
  return columnsOf("dice")
    .map((column) => ({ label: column.label, value: column.get(one) }))
    .filter(({ value }) => typeof value === "number")
    .sort((a, b) => a.value - b.value);
}

/** With more labels than this, a column for each label is too much to read. */
const FEW_LABELS = 4;

/** The codes of a case's flags, each once, the most severe first. */
function flagsOf(one) {
  return [...new Set(one.flags.map(([code]) => code))].join(", ");
}

/** A number for people, with enough digits to compare cases. */
function formatNumber(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  return grouped(value, size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3);
}

/** A cell for people: a count, such as voxels, has no decimals; a Dice of 1 is 1.000. */
function formatCell(value, column) {
  if (value === null || value === undefined || value === "") return "–";
  if (!column.numeric) return String(value);
  return column.whole ? grouped(value, 0) : formatNumber(value);
}

/** A number of cases in words: "1 case", "2,000 cases". */
function countOfCases(count) {
  return `${grouped(count, 0)} ${count === 1 ? "case" : "cases"}`;
}

function capital(words) {
  return words.slice(0, 1).toUpperCase() + words.slice(1);
}

function grouped(value, digits) {
  return value.toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** The quantile of sorted numbers, with linear interpolation (as in NumPy and pandas). */
function quantile(sorted, fraction) {
  const place = (sorted.length - 1) * fraction;
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

/** The cases that match the filters; `onFilter` registers functions that redraw them. */
const selection = { cases: report.cases, listeners: [] };

function onFilter(listener) {
  selection.listeners.push(listener);
}

function select(cases) {
  selection.cases = cases;
  for (const listener of selection.listeners) listener();
}
