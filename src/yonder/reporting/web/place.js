// For a page that a newer one replaces while it is read (`yonder watch`): what of the reader's place is not in the
// document itself is written into the event, and taken from it by the newer page.

function sameRollout(row) {
  return JSON.stringify([row.run, row.stage, row.step, row.stream, row.prompt, row.response]);
}

document.addEventListener("yonder:keep", (event) => {
  const row = browser.found[browser.at];
  event.detail.rollout = row ? sameRollout(row) : null;
  event.detail.ranges = [...figures].map((figure) => [figure.name, figure.range()]).filter(([, range]) => range);
});

document.addEventListener("yonder:return", (event) => {
  const row = event.detail.rollout && rollouts.find((found) => sameRollout(found) === event.detail.rollout);
  if (row) filterRollouts(row);
  if (event.detail.ranges.length) document.querySelectorAll("figure.chart").forEach((figure) => figure.draw?.());
  for (const [name, range] of event.detail.ranges) [...figures].find((figure) => figure.name === name)?.range(range);
});
