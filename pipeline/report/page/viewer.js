"use strict";

/**
 * The viewer of the page; its canvas shows one case at a time. `masks` are the masks of its runs, of
 * which `choice` says which is shown, and whether against another one.
 */
const viewer = { nv: null, overlays: {}, masks: [], choice: { mask: 0, against: null }, hidden: new Set(),
  window: [0, 255], request: 0, axis: 2 };

open.closed.push(() => viewer.request++);

/** Show a case; resolves to true when it is drawn, to false if another case was opened. */
async function showVolumes(one) {
  const request = ++viewer.request;
  const [niivue, volumes] = await Promise.all([loadViewer(), load("volumes", one.id)]);
  if (request !== viewer.request) return false;
  byId("viewer").hidden = false;
  if (!viewer.nv) {
    viewer.nv = await startViewer(niivue);
    viewer.types = niivue.SLICE_TYPE;
    buildControls();
  }
  const { nv } = viewer;
  while (nv.volumes.length) nv.removeVolume(nv.volumes[0]);
  const image = await decode(niivue, volumes.image, "image.nii.gz", {
    colormap: "gray", cal_min: 0, cal_max: 255,
  });
  const masks = volumes.masks ?? [volumes.prediction];
  const overlays = {};
  for (const [kind, mask] of [["prediction", masks.find(Boolean)], ["reference", volumes.reference]]) {
    if (mask) overlays[kind] = await decode(niivue, mask, `${kind}.nii.gz`, {});
  }
  const voxels = await Promise.all(masks.map(async (mask) =>
    mask && (await decode(niivue, mask, "mask.nii.gz", {})).img.slice()));
  if (request !== viewer.request) return false;
  viewer.overlays = overlays;
  viewer.masks = voxels.map((mask) => mask ?? overlays.prediction.img.map(() => 0));
  viewer.window = volumes.window;
  nv.addVolume(image);
  for (const overlay of Object.values(overlays)) {
    overlay.filled = overlay.img.slice(); // the whole mask, from which outlines are made
    nv.addVolume(overlay);
  }
  centreOnMasks(nv, overlays.prediction);
  prepareControls(one, volumes);
  drawOverlays();
  arrange();
  nv.createOnLocationChange();
  return true;
}

/** Start NiiVue on the canvas. */
async function startViewer(niivue) {
  const nv = new niivue.Niivue({
    isRadiologicalConvention: true,
    sagittalNoseLeft: true,
    dragAndDropEnabled: false,
    isNearestInterpolation: true, // interpolation would invent colours between two labels
    backColor: [0.04, 0.05, 0.06, 1],
    crosshairColor: [1, 0.84, 0.37, 0.8],
    crosshairWidth: 0.12,
    crosshairWidthUnit: "percent",
    fontColor: [1, 0.84, 0.37, 1],
    fontMinPx: 15,
    logLevel: "error",
    loadingText: "",
  });
  nv.onLocationChange = showLocation;
  nv.onIntensityChange = followContrast;
  globalThis.addEventListener("resize", () => {
    if (!byId("viewer").hidden) arrange();
  });
  await nv.attachToCanvas(byId("canvas"), true);
  return nv;
}

function decode(niivue, base64, name, options) {
  return niivue.NVImage.loadFromBase64({ base64, name, ...options });
}

/** Move the crosshair to the centre of the prediction; to that of the scan if it is empty. */
function centreOnMasks(nv, overlay) {
  const sums = [0, 0, 0];
  let count = 0;
  const [columns, rows, slices] = overlay.hdr.dims.slice(1, 4);
  for (let index = 0; index < overlay.img.length; index++) {
    if (!overlay.img[index]) continue;
    sums[0] += index % columns;
    sums[1] += Math.floor(index / columns) % rows;
    sums[2] += Math.floor(index / (columns * rows));
    count++;
  }
  const size = [columns, rows, slices];
  nv.scene.crosshairPos = size.map((n, axis) => (count ? (sums[axis] / count + 0.5) / n : 0.5));
}

/** Draw the masks with the settings of the controls. */
function drawOverlays() {
  const { nv, overlays } = viewer;
  const { mask, against } = viewer.choice;
  overlays.prediction.filled = viewer.masks[mask];
  const truth = against === null ? errorsShown() && overlays.reference?.filled : viewer.masks[against];
  for (const [kind, overlay] of Object.entries(overlays)) {
    const outlined = kind === "reference" && byId("outline").checked;
    overlay.img.set(overlay.filled);
    if (outlined && !(truth && against === null)) outline(overlay, crosshairVoxel());
    overlay.setColormapLabel(colormap(report.labels, viewer.hidden, outlined ? kind : ""));
    overlay.opacity = Number(byId(`opacity-${kind}`).value) / 100;
  }
  if (truth) markErrors(overlays.prediction, truth);
  if (truth && against === null && overlays.reference) overlays.reference.opacity = 0;
  nv.updateGLVolume();
}

/** Turn the prediction into a map of its errors against a mask; hidden labels do not count. */
function markErrors(prediction, truth) {
  const seen = [0, ...report.labels.map((_, place) => (viewer.hidden.has(place) ? 0 : place + 1))];
  prediction.filled.forEach((value, index) => {
    prediction.img[index] = errorAt(seen[value], seen[truth[index]]);
  });
  prediction.setColormapLabel(colormap(ERRORS, new Set(), ""));
  prediction.opacity = Math.sqrt(prediction.opacity); // thin errors are seen on dark tissue
}

/** The colours of labels by their position; hidden labels are transparent. */
function colormap(labels, hidden, kind) {
  const channel = (place) => labels.map((label) => {
    return parseInt(shade(label.color, kind).slice(1 + 2 * place, 3 + 2 * place), 16);
  });
  // NiiVue raises every value to at least 2/256 of its table. With more than 64 labels background
  // would get the colour of the first label, so transparent entries below 0 are added.
  const clear = new Array(2 + Math.ceil(labels.length / 64)).fill(0);
  return {
    R: [...clear, ...channel(0)],
    G: [...clear, ...channel(1)],
    B: [...clear, ...channel(2)],
    A: [...clear, ...labels.map((_, position) => (hidden.has(position) ? 0 : 255))],
    I: [...clear, ...labels].map((_, index) => index + 1 - clear.length),
  };
}

/** The index of the voxel under the crosshair; the volumes are stored in RAS order. */
function crosshairVoxel() {
  const size = viewer.nv.volumes[0].hdr.dims.slice(1, 4);
  const position = viewer.nv.scene.crosshairPos;
  return size.map((n, axis) => Math.max(0, Math.min(n - 1, Math.floor(position[axis] * n))));
}

/**
 * Reduce a mask to its outline in each of the three planes through a voxel, and
 * to its surface elsewhere, for the rendering. A surface alone would fill every
 * slice that touches it.
 */
function outline(overlay, voxel) {
  const { img, filled } = overlay;
  const [columns, rows, slices] = overlay.hdr.dims.slice(1, 4);
  const sizes = [columns, rows, slices];
  const steps = [1, columns, columns * rows];
  const isEdge = (index, place, axis) =>
    place === 0 || place === sizes[axis] - 1 ||
    filled[index - steps[axis]] !== filled[index] || filled[index + steps[axis]] !== filled[index];
  let index = 0;
  const at = [0, 0, 0];
  for (at[2] = 0; at[2] < slices; at[2]++) {
    for (at[1] = 0; at[1] < rows; at[1]++) {
      for (at[0] = 0; at[0] < columns; at[0]++, index++) {
        if (!filled[index]) continue;
        const edges = at.map((place, axis) => isEdge(index, place, axis));
        const across = [0, 1, 2].filter((axis) => at[axis] === voxel[axis]);
        // A plane perpendicular to an axis shows the two other axes.
        const seen = across.length
          ? across.some((axis) => edges.some((edge, other) => edge && other !== axis))
          : edges.includes(true);
        img[index] = seen ? filled[index] : 0;
      }
    }
  }
  viewer.outlined = String(voxel);
}

/** Make the controls; they are made only once. */
function buildControls() {
  const { nv } = viewer;
  const layout = make("select", { id: "layout", change: arrange },
    LAYOUTS.map((name) => make("option", {}, name)));
  const slider = (id, name, value, input) =>
    make("label", { id: `${id}-label` }, make("span", {}, name),
      make("input", { id, type: "range", min: 0, max: 100, value, input }));
  byId("viewer-controls").append(
    make("fieldset", {}, make("legend", {}, "Opacity"),
      slider("opacity-image", "Image", 100, () => {
        nv.setOpacity(0, Number(byId("opacity-image").value) / 100);
      }),
      slider("opacity-prediction", "Prediction", 50, drawOverlays),
      slider("opacity-reference", "Reference", 100, drawOverlays)),
    make("fieldset", {}, make("legend", {}, "Slice"),
      AXES.map((name, axis) =>
        make("label", {}, make("span", {}, name),
          make("input", { id: `slice-${axis}`, type: "range", min: 1, max: 1, value: 1,
            input: () => moveTo(axis) })))),
    contrastControls(),
    make("fieldset", {}, make("legend", {}, "Show"),
      make("label", { class: "wide" }, make("span", { class: "hidden" }, "Layout"), layout),
      make("label", { class: "check" },
        make("input", { id: "outline", type: "checkbox", checked: true, change: drawOverlays }),
        "Reference as outline"),
      make("label", { class: "check" },
        make("input", { id: "smooth", type: "checkbox",
          change: () => nv.setInterpolation(!byId("smooth").checked) }),
        "Smooth (interpolate)")),
  );
}

/** Adapt the controls to a case. */
function prepareControls(one, volumes) {
  const { nv, overlays } = viewer;
  const size = nv.volumes[0].hdr.dims.slice(1, 4);
  size.forEach((n, axis) => {
    byId(`slice-${axis}`).max = n;
    byId(`slice-${axis}`).disabled = n === 1;
  });
  byId("opacity-reference").disabled = !overlays.reference;
  byId("outline").disabled = !overlays.reference;
  document.querySelector("#viewer .errors-switch input").disabled = !overlays.reference;
  byId("canvas").setAttribute("aria-label", `Slices of case ${one.id} with its masks`);
  byId("viewer-state").textContent = volumes.notes.length
    ? `Note: ${volumes.notes.join("; ")}. All numbers are of the whole scan.`
    : "";
  followCrosshair();
  followContrast();
}

function moveTo(axis) {
  const { nv } = viewer;
  const position = [...nv.scene.crosshairPos];
  const input = byId(`slice-${axis}`);
  position[axis] = (Number(input.value) - 0.5) / Number(input.max);
  nv.scene.crosshairPos = position;
  nv.drawScene();
  nv.createOnLocationChange();
}

function followCrosshair() {
  const position = viewer.nv.scene.crosshairPos;
  [0, 1, 2].forEach((axis) => {
    const input = byId(`slice-${axis}`);
    const slice = Math.min(Number(input.max), Math.floor(position[axis] * Number(input.max)) + 1);
    input.value = slice;
    input.setAttribute("aria-valuetext", `slice ${slice} of ${input.max}`);
  });
}

/** Show the position, intensity and labels under the crosshair. */
function showLocation(location) {
  followCrosshair();
  viewer.axis = [2, 1, 0][location.axCorSag] ?? viewer.axis;
  if (viewer.overlays.reference && byId("outline").checked && !errorsShown() &&
    viewer.outlined !== String(crosshairVoxel())) {
    requestAnimationFrame(drawOverlays); // other planes have other outlines
  }
  const [low, high] = viewer.window;
  const words = location.mm ? [`${[...location.mm].slice(0, 3).map(inTenths).join(", ")} mm`] : [];
  const image = location.values.find(({ name }) => name === "image.nii.gz");
  if (image) words.push(`intensity about ${formatNumber(low + (image.value / 255) * (high - low))}`);
  const masks = viewer.masks.map((mask, place) => [report.runs?.[place].letter ?? "prediction", mask]);
  if (viewer.overlays.reference) masks.push(["reference", viewer.overlays.reference.filled]);
  for (const [name, mask] of masks) {
    words.push(`${name}: ${report.labels[voxelUnder(mask, location.vox) - 1]?.name ?? "background"}`);
  }
  byId("location").textContent = words.join(" · ");
}

/** A position with one decimal; 0.0 has no sign. */
function inTenths(mm) {
  return (Number(mm.toFixed(1)) || 0).toFixed(1);
}

/** The label of a mask at a voxel, also inside an outline. */
function voxelUnder(mask, vox) {
  if (!vox) return 0;
  const [columns, rows] = viewer.overlays.prediction.hdr.dims.slice(1, 3);
  const [i, j, k] = vox.map(Math.round);
  return mask[i + columns * (j + rows * k)] ?? 0;
}
