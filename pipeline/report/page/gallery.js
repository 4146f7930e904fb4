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
  const scores = report.labels.length > FEW_LABELS
    ? dicesOf(one).slice(0, 3)
    : columnsOf("dice").map((column) => ({ label: column.label, value: column.get(one) }))
      .filter(({ value }) => value !== null);
  return make("li", { class: "card" },
    make("div", { class: "card-head" },
      make("button", { type: "button", class: "link", click: () => openCase(one.id) }, one.id),
      make("p", {}, scores.map(({ label, value }) =>
        make("span", { class: "score", title: `Dice, ${label.name}` }, swatch(label),
          make("span", { class: "hidden" }, `Dice, ${label.name}: `), formatNumber(value))))),
    make("div", { class: "card-picture", click: () => openCase(one.id) }, await montageOf(one)));
}

function startGallery() {
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
