"use strict";

startPage({
  first: [drawHead, startReview, startVolumes],
  plots: [drawVolumes, drawTimings],
  rest: [drawFindings, drawSummary, startErrors, startGallery],
});
