"use strict";

/** Draw predicted against reference volume, or their difference against their mean. */
function drawVolumes() {
  const pairs = columnsOf("volume_ml_ref").map((column, position) => [
    column, columnsOf("volume_ml_pred")[position], position,
  ]);
  byId("volume-panel").hidden = !pairs.length;
  const isDifference = byId("volume-plot").value === "difference";
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
        text: `${id}, ${x.label.name}: prediction ${formatNumber(pred)} ml, ` +
          `reference ${formatNumber(ref)} ml`,
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
    ? { x: "Mean of prediction and reference (ml)", y: "Prediction - reference (ml)",
      lines: limits.flatMap(({ label, mean, low, high }) => [
        { value: mean, color: label.color }, { value: low, color: label.color, limit: true },
        { value: high, color: label.color, limit: true }]) }
    : { x: "Reference (ml)", y: "Prediction (ml)", same: true };
  drawScatter(byId("volumes"), thinned(points), { ...axes, none: "No case has both volumes." });
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
