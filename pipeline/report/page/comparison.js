"use strict";

/** Draw the names of the runs, and how many cases improved. */
function drawComparison() {
  const { runs, cases, metrics } = report;
  writeHead(
    [countOfCases(cases.length), `compared by ${Object.values(metrics).join(", ")}`],
    "This page and its folder may contain scans, masks, scores and identifiers of patients.",
    `${countOfCases(cases.length)}. Viewer: NiiVue, BSD-2-Clause.`,
  );
  byId("runs").replaceChildren(...runs.map(({ letter, name }) =>
    make("li", {}, make("strong", {}, letter), ` ${name}`)));
}

startPage({
  first: [drawComparison, startVolumes, startPaired, startMasks],
  plots: [drawPaired, drawVolumes],
  rest: [drawSummary, startErrors, startGallery],
});
