"use strict";

// Below this width names are above their rows.
const NARROW = 560;
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

/** The width of a plot: that of its place, so that text keeps its size on a phone. */
function plotWidth(place, most) {
  return Math.max(280, Math.min(most, place.clientWidth || most));
}

/**
 * Draw one metric: for each row a box (quartiles, median), the mean with its interval, and beside
 * them a point for each case. Changes have a line at 0.
 */
function drawDistribution(place, rows, title, isChange = false) {
  const values = rows.flatMap((row) => row.points.map((point) => point.value));
  if (!values.length) {
    place.replaceChildren(make("p", { class: "muted" }, "No case has a value."));
    return;
  }
  const [low, high] = bounds(isChange ? [...values, 0] : values);
  const width = plotWidth(place, 960);
  const narrow = width < NARROW;
  const left = narrow ? 14 : 200;
  const right = width - 18;
  const above = narrow ? 34 : 0;
  const rowHeight = above + Math.max(64, Math.min(150, 340 / rows.length));
  const height = rows.length * rowHeight + 46;
  const x = (value) => left + ((value - low) / (high - low)) * (right - left);
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "group",
    "aria-label": title });
  for (const tick of ticks(low, high, narrow ? 4 : 7)) {
    svg.append(
      makeSvg("line", { x1: x(tick), x2: x(tick), y1: 4, y2: height - 42, class: "grid" }),
      makeSvg("text", { x: x(tick), y: height - 26, class: "tick" }, String(tick)),
    );
  }
  if (isChange) {
    svg.append(makeSvg("line", { x1: x(0), x2: x(0), y1: 4, y2: height - 42, class: "agree" }));
  }
  svg.append(makeSvg("text", { x: (left + right) / 2, y: height - 6, class: "axis" }, title));
  rows.forEach((row, index) => {
    const middle = index * rowHeight + above + (rowHeight - above) / 2 + 2;
    const at = { middle, names: narrow ? middle - (rowHeight - above) / 2 - 24 : middle - 14,
      reach: (rowHeight - above) * 0.21, x };
    svg.append(drawRow(row, at, values.length > MOST_POINTS));
  });
  place.replaceChildren(svg);
}

/** Draw the box, the interval and the points of a row; arrow keys walk through them by value. */
function drawRow(row, { middle, names, reach, x }, outliersOnly) {
  const sorted = row.points.map((point) => point.value).sort((a, b) => a - b);
  const group = makeSvg("g", { class: "row", tabindex: "0", role: "group" });
  const name = row.name.length > 24 ? `${row.name.slice(0, 23)}…` : row.name;
  const note = (line, text) =>
    makeSvg("text", { x: 24, y: names + 4 + 14 * line, class: "row-note" }, text);
  group.append(
    makeSvg("rect", { x: 4, y: names - 6, width: 12, height: 12, rx: 2, fill: row.color }),
    makeSvg("text", { x: 24, y: names + 4, class: "row-name" }, name),
  );
  if (!sorted.length) {
    group.append(note(1, "no value"));
    return group;
  }
  const [first, median, third] = [0.25, 0.5, 0.75].map((part) => quantile(sorted, part));
  const said = `median ${formatNumber(median)}, ${countOfCases(sorted.length)}`;
  const interval = row.interval && `mean ${formatNumber(row.interval.mean)} ` +
    `[${formatNumber(row.interval.low)}, ${formatNumber(row.interval.high)}]`;
  group.setAttribute(
    "aria-label",
    `${row.name}: ${said}, quartiles ${formatNumber(first)} and ${formatNumber(third)}` +
      `${interval ? `, ${interval}, 95 % confidence interval` : ""}. ` +
      "Arrow keys walk through the cases, Enter opens one.",
  );
  const fence = 1.5 * (third - first);
  const inside = sorted.filter((value) => value >= first - fence && value <= third + fence);
  const box = middle - reach * 1.1;
  group.append(
    note(1, said),
    ...(interval ? [note(2, interval)] : []),
    makeSvg("line", { x1: x(inside[0]), x2: x(inside.at(-1)), y1: box, y2: box, class: "whisker" }),
    makeSvg("rect", {
      x: x(first), width: Math.max(1, x(third) - x(first)),
      y: box - reach * 0.7, height: reach * 1.4, class: "box",
    }),
    makeSvg("line", {
      x1: x(median), x2: x(median), y1: box - reach * 0.9, y2: box + reach * 0.9, class: "median",
    }),
    ...(interval ? [drawInterval(row.interval, box, x)] : []),
  );
  const shown = outliersOnly
    ? row.points.filter((one) => one.value < first - fence || one.value > third + fence).slice(0, 60)
    : row.points;
  const circles = spread(shown, middle + reach, reach, x).map(({ point, cx, cy }) => {
    const circle = makeSvg("circle", {
      cx, cy, r: 3, class: "point", fill: row.color,
      click: () => openCase(point.id),
      pointerenter: (event) => showTooltip(point.text, event.clientX, event.clientY),
      pointerleave: hideTooltip,
    });
    return { circle, point };
  });
  group.append(...circles.map(({ circle }) => circle));
  walkable(group, circles);
  return group;
}

/** Draw a mean as a diamond, with its confidence interval. */
function drawInterval({ mean, low, high }, y, x) {
  const at = x(mean);
  return makeSvg("path", { class: "interval",
    d: `M${x(low)} ${y - 5}v10m0-5H${x(high)}m0-5v10M${at - 5} ${y}l5-6 5 6-5 6Z` });
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

/**
 * Draw points by two values. `axes` has the titles `x` and `y`, what to say without points, and
 * either `same`, for one scale and the line of equal values, or horizontal `lines`.
 */
function drawScatter(place, points, axes) {
  if (!points.length) {
    place.replaceChildren(make("p", { class: "muted" }, axes.none));
    return;
  }
  const lines = axes.lines ?? [];
  const width = plotWidth(place, axes.same ? 460 : 760); // not above the height of a panel
  const height = axes.same ? width : Math.min(360, width);
  const [start, end, top, bottom] = [62, width - 12, 10, height - 44];
  const xs = points.map((point) => point.x);
  const ys = [...points.map((point) => point.y), ...lines.map((line) => line.value)];
  const [low, high] = bounds(axes.same ? [...xs, ...ys] : xs);
  const [least, most] = axes.same ? [low, high] : bounds(ys);
  const x = (value) => start + ((value - low) / (high - low)) * (end - start);
  const y = (value) => bottom - ((value - least) / (most - least)) * (bottom - top);
  const svg = makeSvg("svg", {
    viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img",
    "aria-label": `${axes.y} against ${axes.x} of ${points.length} masks; the table has all values`,
  });
  svg.style.maxWidth = `${width}px`; // larger text than elsewhere would look odd
  for (const tick of ticks(low, high, 5)) {
    svg.append(
      makeSvg("line", { x1: x(tick), x2: x(tick), y1: top, y2: bottom, class: "grid" }),
      makeSvg("text", { x: x(tick), y: height - 27, class: "tick" }, String(tick)));
  }
  for (const tick of ticks(least, most, 5)) {
    svg.append(
      makeSvg("line", { x1: start, x2: end, y1: y(tick), y2: y(tick), class: "grid" }),
      makeSvg("text", { x: start - 7, y: y(tick) + 4, class: "tick end" }, String(tick)));
  }
  svg.append(
    axes.same ? makeSvg("line", { x1: x(low), y1: y(low), x2: x(high), y2: y(high), class: "agree" }) : "",
    makeSvg("text", { x: (start + end) / 2, y: height - 7, class: "axis" }, axes.x),
    makeSvg("text",
      { x: 0, y: 0, class: "axis", transform: `translate(13 ${(top + bottom) / 2}) rotate(-90)` },
      axes.y),
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
    ...lines.flatMap((line) => (line.limit ? ["casing dashed", "limit"] : ["casing", "bias"]).map((name) =>
      makeSvg("line", { x1: start, x2: end, y1: y(line.value), y2: y(line.value),
        stroke: line.color, class: name }))),
  );
  place.replaceChildren(svg);
}
