"use strict";

/**
 * Draw the volumes of two masks against each other, or their difference against their mean.
 * `report.volumes` says which columns can be drawn.
 */
function drawVolumes() {
  const { x: [xKey, xName], y: [yKey, yName], isDifference } =
    report.volumes[byId("volume-plot").selectedIndex];
  const pairs = columnsOf(xKey).map((column, position) => [column, columnsOf(yKey)[position], position])
    .filter(([, other]) => other);
  byId("volume-panel").hidden = !pairs.length;
  const points = pairs.flatMap(([x, y, position]) =>
    selection.cases
      .map((one) => ({ id: one.id, ref: x.get(one), pred: y.get(one) }))
      .filter(({ ref, pred }) => typeof ref === "number" && typeof pred === "number")
      .map(({ id, ref, pred }) => ({
        id,
        position,
        x: isDifference ? (pred + ref) / 2 : ref,
        y: isDifference ? pred - ref : pred,
        color: x.label.color,
        shape: position,
        text: `${id}, ${x.label.name}: ${yName} ${formatNumber(pred)} ml, ` +
          `${xName} ${formatNumber(ref)} ml`,
      })));
  byId("volume-labels").replaceChildren(...pairs.slice(0, 6).map(([{ label }, , position]) =>
    make("span", {}, makeSvg("svg", { viewBox: "-5 -5 10 10", "aria-hidden": "true" },
      makeSvg("path", { d: SHAPES[position % SHAPES.length], fill: label.color })), label.name)));
  const limits = isDifference ? limitsOf(pairs, points) : [];
  byId("volume-key").replaceChildren(...(limits.length
    ? [make("p", {}, "Line: mean difference; dashed: mean ± 1.96 SD (Bland and Altman 1986)."),
      ...limits.map(({ label, mean, low, high }) => make("p", {}, swatch(label),
        `${label.name}: ${formatNumber(mean)} ml, ${formatNumber(low)} to ${formatNumber(high)} ml`))]
    : [isDifference ? "" : "Dashed: equal volumes."]));
  const axes = isDifference
    ? { x: `Mean of ${yName} and ${xName} (ml)`, y: capital(`${yName} - ${xName} (ml)`),
      lines: limits.flatMap(({ label, mean, low, high }) => [
        { value: mean, color: label.color }, { value: low, color: label.color, limit: true },
        { value: high, color: label.color, limit: true }]) }
    : { x: capital(`${xName} (ml)`), y: capital(`${yName} (ml)`), same: true };
  drawScatter(byId("volumes"), thinned(points), { ...axes, none: "No case has both volumes." });
}

/** List what the panel can draw. */
function startVolumes() {
  byId("volume-plot").replaceChildren(...report.volumes.map(({ id, x, y, isDifference }) =>
    make("option", { value: id }, isDifference
      ? `${capital(y[1])} - ${x[1]} (Bland-Altman)` : `${capital(y[1])} and ${x[1]}`)));
  byId("volume-plot").addEventListener("change", drawVolumes);
}

/** The mean difference of each label and its limits of agreement, from at least 3 cases. */
function limitsOf(pairs, points) {
  return pairs.slice(0, FEW_LABELS).flatMap(([{ label }, , position]) => {
    const values = points.filter((point) => point.position === position).map((point) => point.y);
    if (values.length < 3) return [];
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
    const reach = 1.96 * Math.sqrt(variance);
    return [{ label, mean, low: mean - reach, high: mean + reach }];
  });
}
