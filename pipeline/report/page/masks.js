"use strict";

/** What the viewer of a comparison can show: the mask of a run, or where it differs from that of A. */
const CHOICES = [
  ...report.runs.map(({ letter, name }, mask) => ({ title: `${letter}: ${name}`, mask, against: null })),
  ...report.runs.slice(1).map(({ letter }, place) =>
    ({ title: `${letter} against ${report.runs[0].letter}`, mask: place + 1, against: 0 })),
];

/** Show the chosen mask, and what its colours mean. */
function chooseMask() {
  viewer.choice = CHOICES[byId("mask").selectedIndex];
  const { mask, against } = viewer.choice;
  byId("mask-key").hidden = against === null;
  if (against !== null) {
    const [first, other] = [against, mask].map((place) => report.runs[place].letter);
    const meanings = [`${first} and ${other}`, `only ${other}`, `only ${first}`, "different labels"];
    byId("mask-key").replaceChildren(...ERRORS.map((error, place) =>
      make("span", { class: "error-name" }, swatch(error), meanings[place])));
  }
  if (viewer.nv && !byId("viewer").hidden) drawOverlays();
}

/** Show the next mask. */
function nextMask() {
  byId("mask").selectedIndex = (byId("mask").selectedIndex + 1) % CHOICES.length;
  byId("page-status").textContent = CHOICES[byId("mask").selectedIndex].title;
  chooseMask();
}

KEYS.set("m", { what: "next mask", act: nextMask, needsViewer: true });

function startMasks() {
  byId("mask").replaceChildren(...CHOICES.map(({ title }) => make("option", {}, title)));
  byId("mask").addEventListener("change", chooseMask);
}
