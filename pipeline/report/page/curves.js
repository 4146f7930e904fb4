"use strict";

/** What the panel of curves can show: quantities below each other, each with its axis title. */
const QUANTITIES = [
  { title: "Loss and Dice", rows: [["loss", "Training loss"], ["val_dice", "Validation Dice"]] },
  { title: "Dice of each label", rows: report.labels.slice(0, 8).map(({ value, name }) =>
    [`val_dice_${value}`, `Validation Dice, ${name}`]) },
  { title: "Learning rate and waiting",
    rows: [["learning_rate", "Learning rate"], ["waiting", "Share of time waiting for batches"]] },
];
const OVER = [["steps", "Steps", 1], ["seconds", "Time of the fit (min)", 1 / 60], ["epoch", "Epoch", 1]];
const KINDS = 6; // colours of lines, in the style sheet
const PANEL = 230; // least width of a pair of axes

/** The number of a network's colour: those of the same views, such as "axial 2", share one. */
function kindOf(name) {
  kindOf.known ??= [...new Set(report.curves.flatMap((one) => Object.keys(one.networks))
    .map((one) => one.split(" ")[0]))];
  return kindOf.known.indexOf(name.split(" ")[0]) % KINDS;
}

/** The points of a quantity of a network. */
function pointsOf(columns, x, y, scale) {
  return (columns[y] ?? [])
    .map((value, place) => ({ x: columns[x][place] * scale, y: value, epoch: columns.epoch[place] }))
    .filter((point) => point.y !== null);
}

/** Draw the curves of each fold side by side, with the same axes; quantities below each other. */
function drawCurves() {
  const { rows } = QUANTITIES[byId("curves-what").selectedIndex];
  const [x, xTitle, scale] = OVER[byId("curves-over").selectedIndex];
  const width = plotWidth(byId("curves"), 1240);
  const across = Math.max(1, Math.min(report.curves.length, Math.floor(width / PANEL)));
  const lines = Math.ceil(report.curves.length / across);
  const size = [width / across, across === 1 ? 250 : 220];
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${rows.length * lines * size[1]}`,
    class: "chart curves", role: "img", "aria-label": saidOfCurves(rows) });
  svg.style.maxWidth = `${width}px`;
  const all = (y) => report.curves.flatMap(({ networks }) =>
    Object.values(networks).flatMap((columns) => pointsOf(columns, x, y, scale)));
  const ends = minMax(rows.flatMap(([y]) => all(y)).map((point) => point.x));
  rows.forEach(([y, yTitle], row) => {
    const values = all(y).map((point) => point.y);
    const [low, high] = values.length ? minMax(values) : [0, 1];
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    const span = [low - room, high + room];
    report.curves.forEach((one, place) => {
      const corner = [(place % across) * size[0], (row * lines + Math.floor(place / across)) * size[1]];
      const axes = drawAxes(corner, size, [Math.min(0, ends[0]), ends[1] || 1], span);
      svg.append(...axes.marks, makeSvg("text", { x: axes.middle, y: corner[1] + 14, class: "axis" },
        [one.name, yTitle].filter(Boolean).join(": ")),
      makeSvg("text", { x: axes.middle, y: corner[1] + size[1] - 4, class: "axis" }, xTitle));
      for (const [name, columns] of Object.entries(one.networks)) {
        svg.append(...drawLine(one, name, pointsOf(columns, x, y, scale), axes, yTitle));
      }
    });
  });
  byId("curves").replaceChildren(svg);
}

/** The grid of a pair of axes with its ticks, and how values become positions. */
function drawAxes([left, top], [width, height], [start, end], [low, high]) {
  const [west, east, north, south] = [left + 54, left + width - 22, top + 24, top + height - 36];
  const x = (value) => west + ((value - start) / (end - start)) * (east - west);
  const y = (value) => south - ((value - low) / (high - low)) * (south - north);
  const marks = [
    ...ticks(start, end, width < 300 ? 3 : 6).flatMap((tick) => [
      makeSvg("line", { x1: x(tick), x2: x(tick), y1: north, y2: south, class: "grid" }),
      makeSvg("text", { x: x(tick), y: south + 15, class: "tick" }, tick.toLocaleString("en"))]),
    ...ticks(low, high, 5).flatMap((tick) => [
      makeSvg("line", { x1: west, x2: east, y1: y(tick), y2: y(tick), class: "grid" }),
      makeSvg("text", { x: west - 6, y: y(tick) + 4, class: "tick end" }, String(tick))]),
  ];
  return { x, y, marks, middle: (west + east) / 2 };
}

/** The line of a network, with a mark for each value and a ring at the epoch that was saved. */
function drawLine(one, name, points, { x, y }, title) {
  if (!points.length) return [];
  const path = points.map((point) => `${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`).join("L");
  const line = `line-${kindOf(name)}`;
  const saved = (point) => one.best[name] === point.epoch;
  return [makeSvg("path", { d: `M${path}`, class: `curve ${line}${name.includes(" ") ? " further" : ""}` }),
    ...points.map((point) => makeSvg("circle", {
      cx: x(point.x), cy: y(point.y), r: saved(point) ? 5 : 2.2,
      class: `mark ${line}${saved(point) ? " saved" : ""}`,
      pointerenter: (event) => showTooltip(
        `${[one.name, name].filter(Boolean).join(", ")}, epoch ${point.epoch}: ${title} ` +
        `${formatNumber(point.y)}${saved(point) ? " (saved)" : ""}`, event.clientX, event.clientY),
      pointerleave: hideTooltip,
    }))];
}

/** The curves in words: the first and the last value of each. */
function saidOfCurves(rows) {
  return report.curves.flatMap((one) => Object.entries(one.networks).map(([name, columns]) =>
    `${[one.name, name].filter(Boolean).join(", ")}: ${rows.map(([y, title]) => {
      const points = pointsOf(columns, "steps", y, 1);
      return points.length
        ? `${title} from ${formatNumber(points[0].y)} to ${formatNumber(points.at(-1).y)}`
        : `no ${title}`;
    }).join(", ")}`)).join(". ");
}

/** The rows of history.csv of every fold. */
function rowsOfCurves() {
  const names = [...new Set(report.curves.flatMap((one) =>
    Object.values(one.networks).flatMap((columns) => Object.keys(columns))))];
  return [["fold", "network", ...names], ...report.curves.flatMap((one) =>
    Object.entries(one.networks).flatMap(([network, columns]) => columns.epoch.map((_, place) =>
      [one.name, network, ...names.map((name) => columns[name]?.[place])])))];
}

function startCurves() {
  byId("curves-panel").hidden = !report.curves.some((one) => Object.keys(one.networks).length);
  byId("curves-what").replaceChildren(...QUANTITIES.map(({ title }) => make("option", {}, title)));
  byId("curves-over").replaceChildren(...OVER.map(([, title]) => make("option", {}, title)));
  for (const id of ["curves-what", "curves-over"]) byId(id).addEventListener("change", drawCurves);
  const names = new Set(report.curves.flatMap((one) => Object.keys(one.networks)));
  byId("curves-key").replaceChildren(...[...names].map((name) =>
    make("span", {}, makeSvg("svg", { viewBox: "0 0 24 10", "aria-hidden": "true", class: "chart-key" },
      makeSvg("path", { d: "M0 5H24", class: `curve line-${kindOf(name)}${name.includes(" ") ? " further" : ""}` })),
    name)));
  byId("curves-note").textContent = report.curves.some((one) => Object.keys(one.best).length)
    ? "Ring: the epoch whose weights were saved." : "";
  DOWNLOADS.curves = { plot: true, rows: rowsOfCurves };
}
