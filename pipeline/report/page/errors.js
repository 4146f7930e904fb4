"use strict";

/**
 * What a voxel says about the prediction, in colours that people see apart with every kind of
 * colour vision: from the palette of Okabe and Ito (2008). As in error_map.py.
 */
const ERRORS = [
  { name: "true positive", color: "#56b4e9" },
  { name: "false positive", color: "#d55e00" },
  { name: "false negative", color: "#f0e442" },
  { name: "another label", color: "#0072b2" },
];

/** The number of a voxel's error, from 1 as in `ERRORS`; 0 where both masks are background. */
function errorAt(prediction, reference) {
  if (prediction === reference) return prediction ? 1 : 0;
  return !reference ? 2 : prediction ? 4 : 3;
}

function errorsShown() {
  return document.body.dataset.colours === "errors";
}

/** Show errors, or labels, in the viewer and in every section. */
function showErrors(wanted) {
  document.body.dataset.colours = wanted ? "errors" : "labels";
  for (const box of document.querySelectorAll(".errors-switch input")) box.checked = wanted;
  if (viewer.nv && !byId("viewer").hidden) drawOverlays();
}

/** Draw what each part of a section says about the prediction, from the contours of both masks. */
function drawErrors(section) {
  if (!section.reference) return [];
  const number = (drawErrors.count = (drawErrors.count ?? 0) + 1);
  const clips = section.prediction.map(([position, path]) =>
    makeSvg("clipPath", { id: `clip-${number}-${position}` },
      makeSvg("path", { d: path, "clip-rule": "evenodd" })));
  const fill = (path, error, clip) => makeSvg("path", { d: path, fill: ERRORS[error - 1].color,
    "fill-rule": "evenodd", "shape-rendering": "crispEdges", "clip-path": clip && `url(#clip-${number}-${clip})` });
  const both = (isSame) => section.prediction.flatMap(([position]) => section.reference
    .filter(([other]) => (other === position) === isSame)
    .map(([, path]) => fill(path, isSame ? 1 : 4, position)));
  // Later paths cover earlier ones: what only one mask has stays in its colour.
  return [makeSvg("g", { class: "wrong" }, clips,
    section.reference.map(([, path]) => fill(path, 3)),
    section.prediction.map(([, path]) => fill(path, 2)),
    both(false), both(true))];
}

/** What the colours mean. */
function errorKey() {
  const used = report.labels.length > 1 ? ERRORS : ERRORS.slice(0, 3);
  return used.map((error) => make("span", { class: "error-name" }, swatch(error), error.name));
}

KEYS.set("e", { what: "errors or labels", act: () => showErrors(!errorsShown()) });

function startErrors() {
  for (const place of document.querySelectorAll(".errors-switch")) {
    const box = make("input", { type: "checkbox", change: () => showErrors(box.checked) });
    place.append(make("label", { class: "check" }, box, "Show errors"),
      make("span", { class: "errors-key" }, errorKey()));
  }
  showErrors(false);
}
