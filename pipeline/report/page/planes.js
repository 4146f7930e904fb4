"use strict";

const LAYOUTS = ["Three planes", "Planes and 3D", "Axial", "Coronal", "Sagittal", "3D"];
const AXES = ["Sagittal", "Coronal", "Axial"];
// Tiles of the canvas as shares of it: left, top, width, height.
const QUARTERS = [[0, 0, 0.5, 0.5], [0.5, 0, 0.5, 0.5], [0, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]];
const SHARES = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7];

/**
 * The tiles in which axial, coronal and sagittal plane of a scan of this size fill most of it. The
 * axial plane is the largest, unless more than a seventh of the filled area would be lost.
 */
function bestTiles(width, height, [x, y, z]) {
  const sizes = [[x, y], [x, z], [y, z]];
  const turned = ([left, top, w, h]) => [top, left, h, w];
  const withLarge = (large) => SHARES.flatMap((share) => {
    const parts = [0, 0.5].map((top) => [share, top, 1 - share, 0.5]);
    const tiles = sizes.map((_, plane) => (plane === large ? [0, 0, share, 1] : parts.shift()));
    return [tiles, tiles.map(turned)];
  });
  const whole = 2 * x + y;
  const row = [[0, 0, x / whole, 1], [x / whole, 0, x / whole, 1], [(2 * x) / whole, 0, y / whole, 1]];
  const filled = (tiles) => tiles.reduce((sum, [, , w, h], plane) => {
    const scale = Math.min((w * width) / sizes[plane][0], (h * height) / sizes[plane][1]);
    return sum + scale ** 2 * sizes[plane][0] * sizes[plane][1];
  }, 0);
  const best = (some) => some.reduce((one, other) => (filled(other) > filled(one) ? other : one));
  const axial = best([...withLarge(0), row]);
  const other = best([...withLarge(1), ...withLarge(2), row.map(turned)]);
  return filled(other) * 6 > filled(axial) * 7 ? other : axial;
}

/** Lay the chosen planes out on the canvas. */
function arrange() {
  const { nv, types } = viewer;
  const chosen = byId("layout").selectedIndex;
  if (chosen > 1) {
    nv.clearCustomLayout();
    nv.setSliceType([types.AXIAL, types.CORONAL, types.SAGITTAL, types.RENDER][chosen - 2]);
    if (chosen < 5) viewer.axis = 4 - chosen;
    return;
  }
  const { hdr } = nv.volumes[0];
  const size_mm = [1, 2, 3].map((axis) => hdr.dims[axis] * hdr.pixDims[axis]);
  const { clientWidth, clientHeight } = byId("canvas");
  const tiles = chosen ? QUARTERS : bestTiles(clientWidth, clientHeight, size_mm);
  const order = [types.AXIAL, types.CORONAL, types.SAGITTAL, types.RENDER];
  nv.setSliceType(types.MULTIPLANAR);
  nv.setCustomLayout(tiles.map((position, index) => ({ sliceType: order[index], position })));
}

KEYS.set("ArrowUp", { what: "next slice", act: () => stepSlice(1), needsViewer: true });
KEYS.set("ArrowDown", { what: "previous slice", act: () => stepSlice(-1), needsViewer: true });

/** Move to another slice of the plane that was used last. */
function stepSlice(step) {
  const input = byId(`slice-${viewer.axis}`);
  input.value = Number(input.value) + step;
  moveTo(viewer.axis);
}
