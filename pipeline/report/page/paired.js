"use strict";

/** What the panel of pairs can draw: each metric of each run against that of the first run. */
const PAIRS = Object.keys(report.metrics).flatMap((metric) =>
  report.runs.slice(1).map(({ letter }) => ({ metric, letter })));

/** Draw a metric of two runs against each other, of all labels or of one. */
function drawPaired() {
  const { metric, letter } = PAIRS[byId("pair").selectedIndex];
  const [first] = report.runs;
  const chosen = byId("pair-label").value;
  const others = columnsOf(`${metric}.${letter}`);
  const points = columnsOf(`${metric}.${first.letter}`).flatMap((column, position) => selection.cases
    .map((one) => ({ id: one.id, x: column.get(one), y: others[position].get(one) }))
    .filter(({ x, y }) => typeof x === "number" && typeof y === "number" &&
      (!chosen || String(column.label.value) === chosen))
    .map((point) => ({ ...point, color: column.label.color, shape: position,
      text: `${point.id}, ${column.label.name}: ${first.letter} ${formatNumber(point.x)}, ` +
        `${letter} ${formatNumber(point.y)}` })));
  const title = report.metrics[metric];
  drawScatter(byId("paired"), thinned(points), { x: `${title}, ${first.letter}`,
    y: `${title}, ${letter}`, same: true, none: "No case has both values." });
}

function startPaired() {
  byId("pair").replaceChildren(...PAIRS.map(({ metric, letter }) =>
    make("option", { value: `${metric}.${letter}` },
      `${report.metrics[metric]}, ${letter} against ${report.runs[0].letter}`)));
  byId("pair-label").replaceChildren(make("option", { value: "" }, "all labels"),
    ...report.labels.map(({ value, name }) => make("option", { value }, name)));
  for (const id of ["pair", "pair-label"]) byId(id).addEventListener("change", drawPaired);
  DOWNLOADS.paired = { plot: true, rows: () => {
    const { metric, letter } = PAIRS[byId("pair").selectedIndex];
    return rowsOfColumns(columns.filter((column) => column.id === "id" ||
      [`${metric}.${report.runs[0].letter}`, `${metric}.${letter}`].includes(column.key)));
  } };
}
