"use strict";

/** Side files that are being loaded, by id. */
const awaited = new Map();

/** Called by each side file with its content. */
function receive(parcel) {
  const waiting = awaited.get(parcel.id);
  if (waiting) waiting.resolve(parcel.content);
}

/**
 * Load the pictures of a case: `kind` is "sections" or "volumes". They are read
 * from the page itself if it holds them, else from the side file, once.
 */
function load(kind, caseId) {
  const id = `${kind}/${caseId}`;
  const block = byId(id);
  if (block) return Promise.resolve(JSON.parse(block.textContent).content);
  const before = awaited.get(id);
  if (before) return before.promise;
  const waiting = {};
  waiting.promise = new Promise((resolve, reject) => Object.assign(waiting, { resolve, reject }));
  awaited.set(id, waiting);
  const script = runScript({ src: `${report.folder}/${id}.js` });
  script.addEventListener("error", () => {
    awaited.delete(id);
    waiting.reject(missing(`${id}.js`));
  });
  // Large volumes are not cached: they are read again when the case is opened again.
  if (kind === "volumes") waiting.promise.then(() => awaited.delete(id));
  return waiting.promise;
}

function missing(file) {
  return new Error(
    `the file ${report.folder}/${file} is missing; keep the folder ${report.folder} beside this page`,
  );
}

/** Load NiiVue, once. */
function loadViewer() {
  loadViewer.promise ??= new Promise((resolve, reject) => {
    if (globalThis.niivue) return resolve(globalThis.niivue);
    const block = byId("viewer-script");
    if (block) {
      const bytes = Uint8Array.from(atob(JSON.parse(block.textContent)), (c) => c.charCodeAt(0));
      runScript({ text: new TextDecoder().decode(bytes) }); // runs at once; the policy has its hash
      return globalThis.niivue ? resolve(globalThis.niivue) : reject(new Error("it did not start"));
    }
    const script = runScript({ src: `${report.folder}/niivue.umd.js` });
    script.addEventListener("load", () => resolve(globalThis.niivue));
    script.addEventListener("error", () => reject(missing("niivue.umd.js")));
  });
  return loadViewer.promise;
}

function runScript(properties) {
  const script = Object.assign(document.createElement("script"), properties);
  document.head.append(script);
  script.remove();
  return script;
}
