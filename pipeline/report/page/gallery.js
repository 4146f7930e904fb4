"use strict";

const CARDS = 12;
let cardsShown = CARDS;
let galleryTurn = 0;

/** Draw cards of the worst cases that have a picture, in the order of the report. */
async function drawGallery() {
  const turn = ++galleryTurn;
  const pictured = selection.cases.filter((one) => one.pictures || one.montage);
  byId("gallery-panel").hidden = !report.cases.some((one) => one.pictures || one.montage);
  byId("more").hidden = pictured.length <= cardsShown;
  byId("more").textContent = `Show more (${grouped(Math.max(0, pictured.length - cardsShown), 0)})`;
  const cards = await Promise.all(pictured.slice(0, cardsShown).map(cardOf));
  if (turn === galleryTurn) {
    byId("gallery").replaceChildren(...cards);
    byId("gallery").dataset.cards = cards.length;
  }
}

async function cardOf(one) {
  return make("li", { class: "card" },
    make("div", { class: "card-head" },
      make("button", { type: "button", class: "link", click: () => openCase(one.id) }, one.id),
      make("p", {}, scoresOf(one).map(({ label, title, text }) =>
        make("span", { class: "score", title: `${title}, ${label.name}` }, swatch(label),
          make("span", { class: "hidden" }, `${title}, ${label.name}: `), text))),
      make("p", { class: "card-review", "data-review-of": one.id }, ...reviewOf(one))),
    make("div", { class: "card-picture", click: () => openCase(one.id) }, await montageOf(one)));
}

/** The scores on the card of a case; with many labels, only the lowest or the most different. */
function scoresOf(one) {
  const scores = report.labels.map((label) => ({ label, found: report.scores.map((key) =>
    columnsOf(key).find((column) => column.label === label)?.get(one) ?? null) }))
    .filter(({ found }) => found.some((value) => value !== null));
  if (report.labels.length > FEW_LABELS) {
    const size = ({ found: [first, ...rest] }) => (rest.length ? -Math.abs(rest.at(-1) - first) : first);
    scores.sort((a, b) => size(a) - size(b)).splice(3);
  }
  return scores.map(({ label, found }) => ({ label, text: found.map(formatNumber).join(" → "),
    title: columnsOf(report.scores[0])[0].title }));
}

/** What a reviewer decided about a case, for its card; nothing on a page without reviews. */
function reviewOf(one) {
  if (!report.own.includes("review") || !reviews.has(one.id)) return [];
  const { reviewer, note } = reviews.get(one.id);
  const decision = decisionOf(one);
  const kind = { accepted: "good", rejected: "bad" }[decision] ?? "caution";
  return [make("span", { class: `badge ${kind}` }, decision === "open" ? "not reviewed" : decision),
    [reviewer, note].filter(Boolean).join(": ")];
}

/** Show the reviews on the cards again. */
function showReviews() {
  for (const place of document.querySelectorAll("[data-review-of]")) {
    const one = report.cases.find((candidate) => candidate.id === place.dataset.reviewOf);
    place.replaceChildren(...reviewOf(one));
  }
}

function startGallery() {
  byId("gallery-title").textContent = report.gallery;
  byId("more").addEventListener("click", () => {
    cardsShown += CARDS;
    drawGallery();
  });
  onFilter(() => {
    cardsShown = CARDS;
    drawGallery();
  });
  drawGallery();
}
