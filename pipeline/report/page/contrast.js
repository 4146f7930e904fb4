"use strict";

/** The sliders of window and level, in the intensities of the scan. */
function contrastControls() {
  const slider = (id, name) =>
    make("label", {}, make("span", {}, name),
      make("input", { id, type: "range", min: 1, max: 255, step: 0.5, input: applyContrast }));
  return make("fieldset", {}, make("legend", {}, "Intensity"),
    slider("level", "Level"), slider("window", "Window"),
    make("p", { class: "range" }, make("output", { id: "contrast", for: "level window" }),
      make("button", { type: "button", class: "link", click: resetContrast }, "Reset")));
}

/** Show the image between the intensities that the sliders choose. */
function applyContrast() {
  const [level, width] = ["level", "window"].map((id) => Number(byId(id).value));
  Object.assign(viewer.nv.volumes[0], { cal_min: level - width / 2, cal_max: level + width / 2 });
  viewer.nv.updateGLVolume();
  sayContrast();
}

/** Let the sliders follow the image, whose window can also be drawn with the right button. */
function followContrast() {
  const { cal_min: low, cal_max: high } = viewer.nv.volumes[0];
  byId("level").value = (low + high) / 2;
  byId("window").value = high - low;
  sayContrast();
}

function sayContrast() {
  const { cal_min: low, cal_max: high } = viewer.nv.volumes[0];
  const [black, white] = [low, high].map((value) =>
    formatNumber(viewer.window[0] + (value / 255) * (viewer.window[1] - viewer.window[0])));
  byId("contrast").textContent = `${black} to ${white}`;
}

function resetContrast() {
  Object.assign(viewer.nv.volumes[0], { cal_min: 0, cal_max: 255 });
  viewer.nv.updateGLVolume();
  followContrast();
}
