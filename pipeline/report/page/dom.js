"use strict";

/**
 * Make an element. Attributes whose value is a function become listeners.
 * Children are nodes or text; text is never parsed as HTML.
 */
function make(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** Make an SVG element; like `make`. */
function makeSvg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** The element of the page with this id. */
function byId(id) {
  return document.getElementById(id);
}

/** A square in a label's colour. */
function swatch(label) {
  const square = make("span", { class: "swatch", "aria-hidden": "true" });
  square.style.backgroundColor = label.color; // through CSSOM: the policy allows no style attribute
  return square;
}

/** A label's colour in a mask: the reference has a paler one than the prediction. */
function shade(color, kind) {
  if (kind !== "reference") return color;
  const parts = [1, 3, 5].map((place) => (255 + parseInt(color.slice(place, place + 2), 16)) >> 1);
  return `#${parts.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

/** Show a line of text beside the pointer. */
function showTooltip(text, x, y) {
  const tooltip = byId("tooltip");
  tooltip.textContent = text;
  tooltip.hidden = false;
  const room = document.documentElement.clientWidth - tooltip.offsetWidth - 8;
  tooltip.style.left = `${Math.max(8, Math.min(x + 12, room))}px`;
  tooltip.style.top = `${y + 14}px`;
}

function hideTooltip() {
  byId("tooltip").hidden = true;
}
