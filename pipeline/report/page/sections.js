"use strict";

/** Draw the sections of a case; in a comparison, those of each run in a row. */
function drawCase(sections, title) {
  if (!report.runs) return drawSections(sections, title);
  return make("div", { class: "runs" }, report.runs.map(({ letter, name }, place) =>
    make("div", {},
      make("p", { class: "run-name" }, `${letter}: ${name}`),
      drawSections(sections.map((section) => ({ ...section, prediction: section.masks[place] ?? [] })),
        `${title}, ${letter}`),
      sections[0].masks[place] ? null : make("p", { class: "run-name" }, "This run has no mask."))));
}

/** Draw the sections of a case side by side, at the same scale. */
function drawSections(sections, title) {
  const tallest = Math.max(...sections.map((section) => section.height_mm));
  const figures = sections.map((section) => {
    const caption = `${section.view} ${section.slice} of ${section.of}`;
    const figure = make(
      "figure",
      { class: "section" },
      make("div", { class: "frame" },
        drawSection(section, `${title}, ${caption}, where ${section.why}`),
        make("span", { class: "side-letter" }, section.left),
        make("span", { class: "side-letter end" }, section.right)),
      make("figcaption", {}, caption),
    );
    // All sections have the same scale: the width follows the millimetres.
    figure.style.flexGrow = section.width_mm;
    figure.style.maxWidth = `${(section.width_mm / tallest) * 16}rem`;
    return figure;
  });
  return make("div", { class: "sections" }, figures);
}

function drawSection(section, description) {
  const { width_mm: width, height_mm: height } = section;
  const svg = makeSvg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": description,
  });
  svg.append(
    makeSvg("image", {
      href: `data:image/png;base64,${section.png}`,
      width,
      height,
      preserveAspectRatio: "none",
    }),
    ...drawErrors(section),
    ...drawContours(section.reference ?? [], "reference"),
    ...drawContours(section.prediction, "prediction"),
  );
  return svg;
}

/** Contours with a dark edge below them, so that they are visible on bright and dark tissue. */
function drawContours(contours, kind) {
  return contours.flatMap(([position, path]) => [
    makeSvg("path", { d: path, class: `contour beneath ${kind}` }),
    makeSvg("path", {
      d: path,
      class: `contour ${kind}`,
      stroke: shade(report.labels[position - 1]?.color ?? "#ffffff", kind),
    }),
  ]);
}
