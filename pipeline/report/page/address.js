"use strict";

// Controls whose values are part of the address of a view, besides the filters of columns.
const ADDRESSED = ["find", "status", "reviewed", "below", "metric", "by", "volume-plot",
  "pair", "pair-label", "curves-what", "curves-over"];

/** Each control of the address with its name there. */
function addressed() {
  const fixed = ADDRESSED.map((id) => [id, byId(id)]);
  const filters = buildFilters.few.map(({ column, place }) =>
    [`column-${column.key}`, byId(`filter-${place}`)]);
  return [...fixed, ...filters].filter(([, control]) => control);
}

/** Put the view into the address, so that it can be sent, or kept as a bookmark. */
function writeAddress() {
  const words = new URLSearchParams();
  for (const [name, control] of addressed()) {
    if (control.value && control.value !== writeAddress.usual.get(name)) words.set(name, control.value);
  }
  if (open.one) words.set("case", open.one.id);
  const text = words.toString();
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

/** Set the view to that of the address; a value that a control does not have is left out. */
function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const [name, control] of addressed()) {
    const options = control.options && [...control.options].map((option) => option.value);
    const wanted = words.get(name);
    const value = wanted !== null && (!options || options.includes(wanted)) ? wanted
      : writeAddress.usual.get(name);
    if (control.value === value) continue;
    control.value = value;
    control.dispatchEvent(new Event(control.tagName === "SELECT" ? "change" : "input"));
  }
  if (words.get("case")) openCase(words.get("case"));
}

function startAddress() {
  writeAddress.usual = new Map(addressed().map(([name, control]) => [name, control.value]));
  onFilter(writeAddress);
  for (const [, control] of addressed()) control.addEventListener("change", writeAddress);
  globalThis.addEventListener("hashchange", readAddress);
  readAddress();
}
