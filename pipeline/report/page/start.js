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

/** Draw what depends on the width of the page again when that changes. */
function followWidth(plots) {
  let width = document.documentElement.clientWidth;
  globalThis.addEventListener("resize", () => {
    if (document.documentElement.clientWidth === width) return;
    width = document.documentElement.clientWidth;
    for (const draw of plots) draw();
  });
}

/** Start a page: `first`, table and plots, of which each filter draws `plots` again, then `rest`. */
function startPage({ first, plots, rest }) {
  startTheme();
  byId("print").addEventListener("click", () => globalThis.print());
  for (const start of first) start();
  startTable();
  fillMetrics();
  for (const draw of [drawMetric, ...plots]) {
    draw();
    onFilter(draw);
  }
  followWidth([drawMetric, ...plots]);
  for (const start of [...rest, startKeys, startCase, startDownloads, startAddress]) start();
  document.body.dataset.ready = "yes";
}

/** Write the head of a page: its name, facts, and what of patients it shows. */
function writeHead(facts, shows, footer) {
  byId("run-name").textContent = report.run.name;
  byId("run-facts").textContent = facts.filter(Boolean).join(" · ");
  byId("privacy-text").textContent =
    `${shows} Store and share it as carefully as the scans themselves.`;
  byId("footer").textContent = `${footer} For research only; this is not a medical device.`;
}
