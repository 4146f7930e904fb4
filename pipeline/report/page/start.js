"use strict";

/** Use the theme of the system until the button chooses light or dark. */
function startTheme() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => {
    byId("theme").textContent = isDark() ? "Light" : "Dark";
  };
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  system.addEventListener("change", name);
  name();
}

startTheme();
byId("print").addEventListener("click", () => globalThis.print());
drawHead();
startReview();
startTable();
fillMetrics();
for (const draw of [drawMetric, drawVolumes, drawTimings]) {
  draw();
  onFilter(draw);
}
drawFindings();
drawSummary();
startErrors();
startGallery();
startKeys();
startCase();
startDownloads();
startAddress();
document.body.dataset.ready = "yes";
