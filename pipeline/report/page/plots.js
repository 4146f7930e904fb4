"use strict";

const PLOT_WIDTH = 760;
// Above this many points only outliers are drawn beside the boxes.
const MOST_POINTS = 6000;

/** About `count` round numbers from `low` to `high`. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => {
    return Number(((first + index) * step).toPrecision(12));
  });
}

/** Bounds that hold all values, widened to round numbers. */
function bounds(values) {
  const [low, high] = minMax(values);
  const room = (high - low || Math.abs(high) || 1) * 0.04;
  // If all values are between 0 and 1, the axis ends at 1.
  const share = low >= 0 && high <= 1;
  return [Math.max(low - room, low >= 0 ? 0 : -Infinity), share ? 1 : high + room];
}

/** The smallest and largest value, also of lists that are too long for Math.min. */
function minMax(values) {
  return values.reduce(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    [Infinity, -Infinity],
  );
}

/** Draw one metric: for each label a box (quartiles, median) and a point for each case. */
function drawDistribution(place, rows) {
  const values = rows.flatMap((row) => row.points.map((point) => point.value));
  if (!values.length) {
    place.replaceChildren(make("p", { class: "muted" }, "No case has a value."));
    return;
  }
  const [low, high] = bounds(values);
  const left = 186;
  const right = PLOT_WIDTH - 18;
  const rowHeight = Math.max(44, Math.min(170, 340 / rows.length));
  const height = rows.length * rowHeight + 34;
  const x = (value) => left + ((value - low) / (high - low)) * (right - left);
  const svg = makeSvg("svg", { viewBox: `0 0 ${PLOT_WIDTH} ${height}`, class: "chart" });
  for (const tick of ticks(low, high, 7)) {
    svg.append(
      makeSvg("line", { x1: x(tick), x2: x(tick), y1: 4, y2: height - 26, class: "grid" }),
      makeSvg("text", { x: x(tick), y: height - 8, class: "tick" }, String(tick)),
    );
  }
  rows.forEach((row, index) => {
    const middle = index * rowHeight + rowHeight / 2 + 2;
    svg.append(drawRow(row, middle, Math.min(52, rowHeight * 0.42), x, values.length > MOST_POINTS));
  });
  place.replaceChildren(svg);
}

/** Draw the box and the points of one label; arrow keys walk through them by value. */
function drawRow(row, middle, reach, x, outliersOnly) {
  const sorted = row.points.map((point) => point.value).sort((a, b) => a - b);
  const group = makeSvg("g", { class: "row", tabindex: "0", role: "group" });
  const name = row.name.length > 22 ? `${row.name.slice(0, 21)}…` : row.name;
  group.append(
    makeSvg("rect", { x: 4, y: middle - 6, width: 12, height: 12, rx: 2, fill: row.color }),
    makeSvg("text", { x: 24, y: middle - 1, class: "row-name" }, name),
  );
  if (!sorted.length) {
    group.append(makeSvg("text", { x: 24, y: middle + 14, class: "row-note" }, "no value"));
    return group;
  }
  const [first, median, third] = [0.25, 0.5, 0.75].map((part) => quantile(sorted, part));
  const note = `median ${formatNumber(median)}, ${countOfCases(sorted.length)}`;
  group.setAttribute(
    "aria-label",
    `${row.name}: ${note}, quartiles ${formatNumber(first)} and ${formatNumber(third)}. ` +
      "Arrow keys walk through the cases, Enter opens one.",
  );
  const fence = 1.5 * (third - first);
  const inside = sorted.filter((value) => value >= first - fence && value <= third + fence);
  group.append(
    makeSvg("text", { x: 24, y: middle + 14, class: "row-note" }, note),
    makeSvg("line", {
      x1: x(inside[0]), x2: x(inside.at(-1)), y1: middle, y2: middle, class: "whisker",
    }),
    makeSvg("rect", {
      x: x(first), width: Math.max(1, x(third) - x(first)),
      y: middle - reach * 0.6, height: reach * 1.2, class: "box",
    }),
  );
  const shown = outliersOnly
    ? row.points.filter((one) => one.value < first - fence || one.value > third + fence).slice(0, 60)
    : row.points;
  const circles = spread(shown, middle, reach, x).map(({ point, cx, cy }) => {
    const circle = makeSvg("circle", {
      cx, cy, r: 3, class: "point", fill: row.color,
      click: () => openCase(point.id),
      pointerenter: (event) => showTooltip(point.text, event.clientX, event.clientY),
      pointerleave: hideTooltip,
    });
    return { circle, point };
  });
  group.append(
    ...circles.map(({ circle }) => circle),
    makeSvg("line", {
      x1: x(median), x2: x(median),
      y1: middle - reach * 0.75, y2: middle + reach * 0.75, class: "median",
    }),
  );
  walkable(group, circles);
  return group;
}

/** Positions of points, so that they overlap as little as the row allows. */
function spread(points, middle, reach, x) {
  const stacks = new Map();
  const placed = [...points]
    .sort((a, b) => a.value - b.value)
    .map((point) => {
      const cx = x(point.value);
      const stack = Math.round(cx / 5);
      const number = stacks.get(stack) ?? 0;
      stacks.set(stack, number + 1);
      return { point, cx, stack, number };
    });
  return placed.map(({ point, cx, stack, number }) => {
    const step = Math.min(5, (2 * reach) / Math.max(1, stacks.get(stack)));
    const side = number % 2 ? 1 : -1;
    return { point, cx, cy: middle + side * Math.ceil(number / 2) * step };
  });
}

/** Let arrow keys walk through points that are sorted by value. */
function walkable(group, circles) {
  let active = -1;
  const mark = (index) => {
    circles[active]?.circle.classList.remove("active");
    active = Math.max(0, Math.min(index, circles.length - 1));
    const { circle, point } = circles[active];
    circle.classList.add("active");
    const box = circle.getBoundingClientRect();
    showTooltip(point.text, box.right, box.bottom);
    byId("page-status").textContent = point.text;
  };
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (!circles.length) return;
    if (step) mark(active + step);
    else if (event.key === "Enter" && active >= 0) openCase(circles[active].point.id);
    else return;
    event.preventDefault();
  });
  group.addEventListener("blur", () => {
    circles[active]?.circle.classList.remove("active");
    active = -1;
    hideTooltip();
  });
}

/** Marks of labels, which differ in shape as well as in colour. */
const SHAPES = [
  "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0Z",
  "M-3-3H3V3H-3Z",
  "M0-3.8L3.6 2.8H-3.6Z",
  "M0-4L4 0L0 4L-4 0Z",
  "M0 3.8L3.6-2.8H-3.6Z",
];

/** Draw reference against prediction, both in ml, with the line on which they agree. */
function drawScatter(place, points, titles) {
  if (!points.length) {
    place.replaceChildren(make("p", { class: "muted" }, "No case has both volumes."));
    return;
  }
  const size = 360;
  const start = 52;
  const [low, high] = bounds(points.flatMap((point) => [point.x, point.y]));
  const x = (value) => start + ((value - low) / (high - low)) * (size - start - 12);
  const y = (value) => size - 44 - ((value - low) / (high - low)) * (size - 44 - 10);
  const svg = makeSvg("svg", {
    viewBox: `0 0 ${size} ${size}`, class: "chart", role: "img",
    "aria-label": `${titles.y} against ${titles.x} of ${points.length} masks; the table has all values`,
  });
  for (const tick of ticks(low, high, 5)) {
    svg.append(
      makeSvg("line", { x1: x(tick), x2: x(tick), y1: y(low), y2: y(high), class: "grid" }),
      makeSvg("line", { x1: x(low), x2: x(high), y1: y(tick), y2: y(tick), class: "grid" }),
      makeSvg("text", { x: x(tick), y: size - 27, class: "tick" }, String(tick)),
      makeSvg("text", { x: start - 7, y: y(tick) + 4, class: "tick end" }, String(tick)),
    );
  }
  svg.append(
    makeSvg("line", { x1: x(low), y1: y(low), x2: x(high), y2: y(high), class: "agree" }),
    makeSvg("text", { x: (start + size) / 2, y: size - 7, class: "axis" }, titles.x),
    makeSvg(
      "text",
      { x: 0, y: 0, class: "axis", transform: `translate(13 ${size / 2 - 18}) rotate(-90)` },
      titles.y,
    ),
    ...points.map((point) =>
      makeSvg("path", {
        d: SHAPES[point.shape % SHAPES.length],
        transform: `translate(${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)})`,
        class: "point", fill: point.color,
        click: () => openCase(point.id),
        pointerenter: (event) => showTooltip(point.text, event.clientX, event.clientY),
        pointerleave: hideTooltip,
      }),
    ),
  );
  place.replaceChildren(svg);
}
