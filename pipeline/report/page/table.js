"use strict";

const PAGE_ROWS = 50;
// On paper the table has no pages, but at most this many rows.
const PRINTED_ROWS = 500;
const table = { sort: null, down: false, page: 0, shown: new Set(), rows: PAGE_ROWS };

/** The columns that are shown at first: those that help to find a bad case. */
function usualColumns() {
  const many = report.labels.length > FEW_LABELS;
  const metrics = many && report.own.includes("lowest") ? [] : report.usual;
  const always = ["id", "status", "flags", "warnings", "review", ...(many ? ["lowest", "lowest-label"] : [])];
  const wanted = columns.filter((column) => {
    if (column.label) return metrics.includes(column.key);
    return always.includes(column.id) ||
      (column.id.startsWith("case/") && !["seconds", "qc_rank"].includes(column.key));
  });
  return new Set(wanted.slice(0, 18).map((column) => column.id));
}

/** The filtered cases in the order of the table. */
function tableOrder() {
  const cases = [...selection.cases];
  if (!table.sort) return cases; // worst first, as the report gives them
  const { get, numeric } = table.sort;
  const sign = table.down ? -1 : 1;
  return cases.sort((one, other) => {
    const [a, b] = [get(one), get(other)];
    const missing = (value) => value === null || value === undefined || value === "";
    // Missing values come last in both directions.
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    if (numeric) return sign * (a - b);
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  });
}

function shownColumns() {
  return columns.filter((column) => table.shown.has(column.id));
}

function drawTable() {
  const order = tableOrder();
  const pages = Math.max(1, Math.ceil(order.length / table.rows));
  table.page = Math.min(table.page, pages - 1);
  const first = table.page * table.rows;
  const rows = order.slice(first, first + table.rows);
  const shown = shownColumns();
  byId("table").tHead.replaceChildren(headOf(shown));
  byId("table").tBodies[0].replaceChildren(...rows.map((one) => rowOf(one, shown)));
  byId("page-number").textContent = order.length
    ? `${grouped(first + 1, 0)}–${grouped(first + rows.length, 0)} of ${grouped(order.length, 0)}`
    : "No case matches the filters";
  byId("previous-page").disabled = table.page === 0;
  byId("next-page").disabled = table.page >= pages - 1;
}

function headOf(shown) {
  return make("tr", {}, shown.map((column) => {
    const sorted = table.sort === column;
    return make("th", {
      scope: "col",
      class: column.numeric ? "number" : "",
      "aria-sort": sorted ? (table.down ? "descending" : "ascending") : "none",
    }, make("button", { type: "button", "data-column": column.id, title: column.about, click: () => sortBy(column) },
      column.label && report.labels.length > 1
        ? [make("span", { class: "of" }, swatch(column.label), column.label.name), column.title]
        : column.title));
  }));
}

function rowOf(one, shown) {
  return make("tr", { class: one.status === "failed" ? "failed" : "", "data-case": one.id },
    shown.map((column) => {
      const value = column.get(one);
      if (column.id === "id") {
        return make("th", { scope: "row" },
          make("button", { type: "button", class: "link", click: () => openCase(one.id) }, one.id));
      }
      if (column.id === "status") return make("td", {}, badgeOf(one, value));
      return make("td", { class: column.numeric ? "number" : "" }, formatCell(value, column));
    }));
}

function badgeOf(one, status) {
  const kind = status === "done" ? "good" : one.status === "failed" ? "bad" : "caution";
  return make("span", { class: `badge ${kind}`, title: one.reason ? one.reason.join(": ") : null }, status);
}

/** Sort by a column, the worst values first; a second click reverses the order. */
function sortBy(column) {
  if (table.sort === column) table.down = !table.down;
  else Object.assign(table, { sort: column, down: column.better === "lower" });
  table.page = 0;
  drawTable();
  byId("table").querySelector(`[data-column="${CSS.escape(column.id)}"]`)?.focus();
}

/** Make check boxes that choose columns: those of cases, and metrics of all labels together. */
function buildChooser() {
  const box = (title, ids) => {
    const input = make("input", {
      type: "checkbox",
      checked: ids.some((id) => table.shown.has(id)),
      change: () => {
        for (const id of ids) input.checked ? table.shown.add(id) : table.shown.delete(id);
        drawTable();
      },
    });
    return make("label", { class: "check" }, input, title);
  };
  byId("columns").replaceChildren(
    ...report.columns.label.map((metric) =>
      box(metric.title, columnsOf(metric.key).map((column) => column.id))),
    ...columns.filter((column) => !column.label && column.id !== "id")
      .map((column) => box(column.title, [column.id])),
  );
}

/** Build the filters: text, status, columns with few values, and an upper limit of Dice. */
function buildFilters() {
  const form = byId("filters");
  const few = report.columns.case
    .map((column, place) => ({ column, place, values: distinct(place) }))
    .filter(({ column, values }) => !column.numeric &&
      values.length > 1 && values.length <= 12)
    .slice(0, 4);
  const choose = (id, title, values) =>
    make("label", {}, make("span", {}, title), make("select", { id, change: applyFilters },
      make("option", { value: "" }, "all"),
      values.map((value) => make("option", { value }, value))));
  const has = (name) => report.own.includes(name);
  form.replaceChildren(
    make("label", { class: "grow" }, make("span", {}, "Find"),
      make("input", { type: "search", id: "find", 
        placeholder: has("flags") ? "case id, reason, flag, warning, column" : "case id, column",
        input: applyFilters, autocomplete: "off" })),
    has("status") ? choose("status", "Status", [...new Set(report.cases.map(statusOf))].sort()) : "",
    has("review") ? choose("reviewed", "Review", ["accepted", "rejected", "open"]) : "",
    ...few.map(({ column, place, values }) => choose(`filter-${place}`, column.title, values)),
    columnsOf("dice").length
      ? make("label", {}, make("span", {}, "Dice of any label below"),
        make("input", { type: "number", id: "below", min: 0, max: 1, step: 0.05, input: applyFilters }))
      : "",
    make("button", { type: "button", click: clearFilters }, "Clear filters"),
    make("output", { id: "page-count", for: "find" }),
  );
  form.addEventListener("submit", (event) => event.preventDefault());
  buildFilters.few = few;
}

function distinct(place) {
  const values = new Set(report.cases.map((one) => one.values[place]));
  values.delete(null);
  values.delete("");
  return [...values].map(String).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}

function applyFilters() {
  const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const status = byId("status")?.value;
  const reviewed = byId("reviewed")?.value;
  const below = byId("below")?.value;
  const dice = columnsOf("dice");
  select(report.cases.filter((one) => {
    if (status && statusOf(one) !== status) return false;
    if (reviewed && decisionOf(one) !== reviewed) return false;
    for (const { place } of buildFilters.few) {
      const wanted = byId(`filter-${place}`).value;
      if (wanted && String(one.values[place]) !== wanted) return false;
    }
    if (below && !dice.some((column) => column.get(one) !== null && column.get(one) < Number(below))) {
      return false;
    }
    return words.every((word) => textOf(one).includes(word));
  }));
}

/** The searchable text of a case in lower case, made at the first search. */
function textOf(one) {
  one.text ??= [one.id, statusOf(one), ...(one.reason ?? []), ...one.flags.flat(), ...one.warnings.flat(),
    ...one.values.filter((value) => typeof value === "string")].join("\n").toLowerCase();
  return one.text;
}

function filterByText(text) {
  byId("find").value = text;
  applyFilters();
  byId("cases").scrollIntoView();
  byId("cases").focus({ preventScroll: true });
}

function clearFilters() {
  byId("filters").reset();
  applyFilters();
  byId("find").focus();
}

function countShown() {
  const { cases } = selection;
  byId("page-count").textContent = cases.length === report.cases.length
    ? countOfCases(cases.length)
    : `${grouped(cases.length, 0)} of ${countOfCases(report.cases.length)}`;
}

function startTable() {
  table.shown = usualColumns();
  buildFilters();
  buildChooser();
  const turn = (step) => {
    table.page += step;
    drawTable();
  };
  byId("previous-page").addEventListener("click", () => turn(-1));
  byId("next-page").addEventListener("click", () => turn(1));
  onFilter(() => {
    table.page = 0;
    drawTable();
    countShown();
  });
  globalThis.addEventListener("beforeprint", () => {
    Object.assign(table, { rows: PRINTED_ROWS, page: 0 });
    drawTable();
  });
  globalThis.addEventListener("afterprint", () => {
    table.rows = PAGE_ROWS;
    drawTable();
  });
  drawTable();
  countShown();
}
