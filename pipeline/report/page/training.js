"use strict";

/** Draw what the page says first. */
function drawTraining() {
  const { cases, held } = report;
  writeHead([], "This page may contain scores and identifiers of patients.",
    cases.length ? `${countOfCases(cases.length)} with scores.` : "");
  byId("lines").replaceChildren(...report.lines.filter(Boolean).map((line) => make("p", {}, line)));
  byId("held").textContent = capital(held);
  const tiles = columnsOf("dice").map((column) => {
    const values = cases.map(column.get).filter((value) => typeof value === "number");
    values.sort((a, b) => a - b);
    return values.length ? [`Median Dice, ${column.label.name}`, formatNumber(quantile(values, 0.5))] : null;
  }).filter(Boolean);
  byId("tiles").replaceChildren(...tiles.map(([name, value]) =>
    make("div", { class: "tile" }, make("dt", {}, name), make("dd", {}, value))));
  // Without held-out cases there are no scores.
  for (const id of ["filters", "cases"]) byId(id).hidden = !cases.length;
  byId("distribution").closest("section").hidden = !cases.length;
}

/** Draw each table of the data: what was chosen, facts, the recipe with its reasons. */
function drawTables() {
  byId("tables").replaceChildren(...report.tables.map(({ title, about, header, rows }, place) => {
    const name = `table-${place}`;
    const head = header.some(Boolean)
      ? make("thead", {}, make("tr", {}, header.map((cell) => make("th", { scope: "col" }, cell)))) : null;
    DOWNLOADS[name] = { title, rows: () => [header, ...rows] };
    return make("section", { class: "panel", "aria-labelledby": `${name}-title` },
      make("div", { class: "panel-head" }, make("h2", { id: `${name}-title` }, title),
        make("p", { class: "downloads", "data-download": name })),
      about ? make("p", { class: "muted" }, about) : null,
      make("div", { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": `${name}-title` },
        make("table", { class: "plain" }, head, make("tbody", {}, rows.map(([first, ...others]) =>
          make("tr", {}, make("th", { scope: "row" }, first), others.map((cell) =>
            make("td", {}, cell === null ? "–" : String(cell)))))))));
  }));
}

startPage({
  first: [drawTraining, drawTables, startCurves],
  plots: [],
  rest: [drawCurves, drawSummary],
});
followWidth([drawCurves]);
