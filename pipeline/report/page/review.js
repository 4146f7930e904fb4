"use strict";

/**
 * What people decided about masks. It is kept in this browser, under the key of the run, until it
 * is exported as review.csv. A decision is about one mask: if the mask has changed since, it is
 * left out.
 */
const reviews = new Map();
const REVIEW_COLUMNS = ["case_id", "review", "reviewer", "note", "mask_sha256", "reviewed"];
const KEPT = `voxtile-review-${report.key}`;
const INITIALS = "voxtile-reviewer";

KEYS.set("a", { what: "accept", act: () => decide("accepted") });
KEYS.set("r", { what: "reject", act: () => decide("rejected") });
KEYS.set("n", { what: "note", act: () => byId("note").focus() });

/** A value that this browser keeps; null if there is none, or the browser keeps nothing. */
function kept(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    byId("review-said").textContent =
      "This browser keeps nothing: download the review before you close the page.";
  }
}

/** The decision about a case: "accepted", "rejected" or "open". */
function decisionOf(one) {
  return reviews.get(one.id)?.decision ?? "open";
}

/** Take the reviews that the page was written with, and later ones that this browser kept. */
function readReviews() {
  let entries = [];
  try {
    entries = Object.entries(JSON.parse(kept(KEPT) ?? "{}"));
  } catch {
    // Another program wrote there: the page begins anew.
  }
  const stored = new Map(entries);
  let stale = 0;
  for (const one of report.cases) {
    const found = [one.review, stored.get(one.id)].filter(Boolean);
    const current = found.filter((entry) => !entry.mask_sha256 || entry.mask_sha256 === one.mask);
    stale += found.length > current.length && !current.length;
    current.sort((a, b) => a.reviewed.localeCompare(b.reviewed));
    if (current.length) reviews.set(one.id, current.at(-1));
  }
  return stale;
}

/** Change the review of the open case, and keep it. */
function reviewCase(change) {
  const { one } = open;
  const before = reviews.get(one.id) ?? { decision: "open", reviewer: "", note: "" };
  reviews.set(one.id, { ...before, reviewer: byId("reviewer").value.trim(), ...change,
    mask_sha256: one.mask, reviewed: new Date().toISOString().slice(0, 19) + "Z" });
  keep(KEPT, JSON.stringify(Object.fromEntries(reviews)));
  showReview(one);
  showReviews();
  countReviews();
  drawTable();
}

/** Decide about the open case; the same decision again takes it back. */
function decide(decision) {
  const same = decisionOf(open.one) === decision;
  reviewCase({ decision: same ? "open" : decision });
  const said = same ? "not reviewed" : decision;
  byId("review-said").textContent = `${open.one.id}: ${said}` +
    (!same && !byId("reviewer").value.trim() ? ". Please enter your initials." : "");
}

/** Show the review of a case in the form of the open case. */
function showReview(one) {
  const decision = decisionOf(one);
  for (const button of document.querySelectorAll("[data-decision]")) {
    button.setAttribute("aria-pressed", String(button.dataset.decision === decision));
  }
  const note = reviews.get(one.id)?.note ?? "";
  if (byId("note").value !== note) byId("note").value = note;
  byId("review-said").textContent = "";
}

function countReviews() {
  const counts = { accepted: 0, rejected: 0, open: 0 };
  for (const one of report.cases) counts[decisionOf(one)]++;
  byId("review-count").textContent =
    `${grouped(counts.accepted, 0)} accepted, ${grouped(counts.rejected, 0)} rejected, ` +
    `${grouped(counts.open, 0)} not reviewed`;
}

function reviewText() {
  const rows = report.cases.filter((one) => reviews.has(one.id)).map((one) => {
    const { decision, reviewer, note, mask_sha256, reviewed } = reviews.get(one.id);
    return [one.id, decision === "open" ? "" : decision, reviewer, note, mask_sha256, reviewed];
  });
  return csvText([REVIEW_COLUMNS, ...rows]);
}

function startReview() {
  open.shown.push(showReview);
  const stale = readReviews();
  byId("reviewer").value = kept(INITIALS) ?? "";
  byId("reviewer").addEventListener("change", () => {
    keep(INITIALS, byId("reviewer").value.trim());
    if (open.one && reviews.has(open.one.id)) reviewCase({});
  });
  byId("note").addEventListener("input", () => reviewCase({ note: byId("note").value }));
  byId("note").addEventListener("keydown", (event) => {
    if (event.key === "Enter") byId("case-body").focus();
  });
  for (const button of document.querySelectorAll("[data-decision]")) {
    button.addEventListener("click", () => decide(button.dataset.decision));
  }
  byId("export-review").addEventListener("click", () =>
    download("review.csv", new Blob([reviewText()], { type: "text/csv" })));
  byId("stale-reviews").textContent = stale
    ? `The reviews of ${countOfCases(stale)} are left out, because the masks have changed since.` : "";
  countReviews();
}
