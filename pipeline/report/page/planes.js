"use strict";

const LAYOUTS = ["Three planes", "Planes and 3D", "Axial", "Coronal", "Sagittal", "3D"];
const AXES = ["Sagittal", "Coronal", "Axial"];
// Tiles of the canvas as shares of it: left, top, width, height.
const QUARTERS = [[0, 0, 0.5, 0.5], [0.5, 0, 0.5, 0.5], [0, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]];
const SHARES = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7];

/** The tiles in which axial, coronal and sagittal plane of a scan of this size fill most of it. */
function bestTiles(width, height, [x, y, z]) {
  const sizes = [[x, y], [x, z], [y, z]];
  const turned = ([left, top, w, h]) => [top, left, h, w];
  const rows = sizes.map((_, large) => SHARES.map((share) => {
    const parts = [0, 0.5].map((top) => [share, top, 1 - share, 0.5]);
    return sizes.map((_size, plane) => (plane === large ? [0, 0, share, 1] : parts.shift()));
  })).flat();
  const whole = 2 * x + y;
  rows.push([[0, 0, x / whole, 1], [x / whole, 0, x / whole, 1], [(2 * x) / whole, 0, y / whole, 1]]);
  const filled = (tiles) => tiles.reduce((sum, [, , w, h], plane) => {
    const scale = Math.min((w * width) / sizes[plane][0], (h * height) / sizes[plane][1]);
    return sum + scale ** 2 * sizes[plane][0] * sizes[plane][1];
  }, 0);
  return [...rows, ...rows.map((tiles) => tiles.map(turned))].reduce((best, tiles) =>
    (filled(tiles) > filled(best) ? tiles : best));
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

/** Move to another slice of the plane that was used last. */
function stepSlice(step) {
  const input = byId(`slice-${viewer.axis}`);
  input.value = Number(input.value) + step;
  moveTo(viewer.axis);
}
