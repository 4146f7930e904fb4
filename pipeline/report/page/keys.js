"use strict";

/**
 * What each key does while a case is open, to which other scripts add theirs; modifiers and fields
 * for text keep their keys.
 */
const KEYS = new Map([
  ["ArrowLeft", { what: "previous case", act: () => walk(-1) }],
  ["ArrowRight", { what: "next case", act: () => walk(1) }],
]);
const KEY_NAMES = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→" };

function pressKey(event) {
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const key = KEYS.get(name);
  const types = "input:not([type=checkbox]), select, textarea";
  if (!key || event.ctrlKey || event.metaKey || event.altKey || event.target.matches(types)) return;
  if (key.needsViewer && byId("viewer").hidden) return;
  key.act();
  event.preventDefault();
  event.stopPropagation(); // the viewer has keys of its own
}

function startKeys() {
  byId("case").addEventListener("keydown", pressKey, { capture: true });
  byId("keys").replaceChildren(...[...KEYS].map(([name, { what }]) =>
    make("span", {}, make("kbd", {}, KEY_NAMES[name] ?? name.toUpperCase()), ` ${what}`)));
}
