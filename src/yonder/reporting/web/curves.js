// Learning curves: a figure for each metric, stages of all runs laid over each other.

const view = { axis: "step", smoothing: 5, hidden: new Set(), metric: "" };

const PANELS = {
  learning: [
    { title: "Reward", hint: "Mean reward of each term.", match: /^terms\/(.+)\/reward_mean$/ },
    { title: "Accuracy on held-out questions", match: /^(development|held_out)\/accuracy$/, percent: true },
    { title: "Training loss", match: /^loss$/ },
  ],
  policy: [
    { title: "Distance from the reference", unit: "KL, nats", match: /^policy\/kl_nats$/ },
    { title: "Entropy", unit: "nats", match: /^policy\/entropy_nats$/ },
    { title: "Length of completions", unit: "tokens", match: /^rollouts\/(.+)\/length_mean$/ },
    { title: "Finished by themselves", match: /^rollouts\/(.+)\/finished$/, percent: true },
    { title: "Scored rollouts", hint: "Unscored ones are left out of the loss.", match: /^terms\/(.+)\/scored$/, percent: true },
    { title: "Clip fraction", match: /^policy\/clip_fraction$/, percent: true },
  ],
  optimisation: [
    { title: "Policy loss", match: /^terms\/(.+)\/policy_loss$/ },
    { title: "Value loss", match: /^terms\/(.+)\/value_loss$/ },
    { title: "Explained variance", match: /^terms\/(.+)\/explained_variance$/ },
    { title: "Learning rate", match: /^lr$/ },
    { title: "Gradient norm", match: /^grad_norm$/ },
  ],
  speed: [
    { title: "Tokens per second", match: /^tokens_per_s$/ },
    { title: "Seconds for each part of a step", match: /^time\/(.+)_s$/ },
  ],
  judge: [
    { title: "What the judge says, and what is true", hint: "Mean score against verified share, labeled rollouts.", match: /^monitor\/(.+)\/(?:mean|verified_mean)$/, percent: true },
    { title: "Gap", hint: "Mean score minus verified share; growth means the judge is being fooled.", match: /^monitor\/(.+)\/gap$/ },
    { title: "Wrong responses the judge likes", unit: "false-positive rate", match: /^monitor\/(.+)\/false_positive_rate$/, percent: true },
    { title: "Agreement with the verifier", match: /^monitor\/(.+)\/(?:accuracy|auroc)$/, percent: true },
  ],
};

const AXIS_NAMES = { step: "step", iteration: "iteration", time_s: "minutes", row: "row" };

function axisOf(stage) {
  const values = stage.axes[view.axis] || stage.axes.step || stage.axes.row;
  return view.axis === "time_s" && stage.axes.time_s ? values.map((value) => value / 60) : values;
}

/** Lines of every visible stage whose metric matches; colour is the stage, dash what distinguishes lines within it. */
function linesFor(match, keysOf = null) {
  const members = [];
  const lines = [];
  facts.curves.forEach((stage, index) => {
    if (view.hidden.has(index)) return;
    const axis = axisOf(stage);
    for (const key of keysOf ? keysOf(stage) : Object.keys(stage.series)) {
      const found = match.exec(key);
      if (!found) continue;
      const series = stage.series[key];
      const member = memberName(key, found[1]);
      if (!members.includes(member)) members.push(member);
      const pairs = series.y.map((value, i) => [axis[series.at ? series.at[i] : i], value]).sort((a, b) => a[0] - b[0]);
      const spaced = pairs.filter((pair, i) => !i || pair[0] > pairs[i - 1][0]);
      lines.push({ index, member, colour: index, x: spaced.map((pair) => pair[0]), y: spaced.map((pair) => pair[1]) });
    }
  });
  const stages = new Set(lines.map((line) => line.index));
  for (const line of lines) {
    const { run, stage } = facts.curves[line.index];
    line.dash = members.indexOf(line.member);
    const parts = [stages.size > 1 || members.length === 1 ? stageLabel(run, stage) : "", members.length > 1 ? line.member : ""];
    line.label = parts.filter(Boolean).join(" · ");
  }
  return lines;
}

/** terms/judge@unlabeled/reward_mean -> judge@unlabeled; monitor/judge/verified_mean -> verified; time/score_s -> score. */
function memberName(key, caught) {
  const last = key.split("/").at(-1);
  if (key.startsWith("monitor/")) {
    const said = { mean: `${caught} says`, verified_mean: "verified", accuracy: `${caught}, accuracy`, auroc: `${caught}, AUROC` };
    return said[last] || caught;
  }
  return caught || "";
}

function drawGroup(container) {
  const group = container.dataset.group;
  container.querySelectorAll("figure").forEach((old) => old.destroy?.());
  const made = PANELS[group].map((panel) => ({ panel, lines: linesFor(panel.match) })).filter(({ lines }) => lines.length)
    .map(({ panel, lines }) => lineFigure(lines, chartOptions(panel, lines)));
  const empty = el("p.empty", {}, container.dataset.empty || "Nothing was recorded here.");
  container.replaceChildren(...(made.length ? made : [empty]));
  made.forEach((figure) => figure.draw());
}

function chartOptions(panel, lines) {
  const shares = lines.every((line) => line.y.every((value) => value === null || (value >= 0 && value <= 1)));
  return { ...panel, percent: Boolean(panel.percent && shares), smoothing: lines.some((line) => line.x.length > 8 * view.smoothing) ? view.smoothing : 1, xLabel: AXIS_NAMES[view.axis] };
}

function drawAnyMetric() {
  const container = byId("any-metric");
  if (!container) return;
  container.querySelectorAll("figure").forEach((old) => old.destroy?.());
  const key = view.metric;
  const lines = linesFor(/^(.*)$/, (stage) => (key in stage.series ? [key] : []));
  if (!lines.length) {
    container.replaceChildren(el("p.empty", {}, "No stage that is shown has this metric."));
    return;
  }
  const figure = lineFigure(lines, { ...chartOptions({ title: key, hint: "Drag to look closer, double-click to look from afar." }, lines), height: 280 });
  container.replaceChildren(figure);
  figure.draw();
}

function drawAll() {
  document.querySelectorAll(".charts[data-group]").forEach((container) => {
    if (!container.closest("details:not([open])")) drawGroup(container);
  });
  drawAnyMetric();
  const longest = Math.max(1, ...facts.curves.map((stage) => stage.every));
  byId("averaged").textContent = longest > 1 ? `Long stages are drawn as means of up to ${longest} rows a point; metrics.jsonl has every row.` : "";
}

function metricOptions() {
  const groups = new Map();
  for (const stage of facts.curves) {
    for (const key of Object.keys(stage.series)) {
      const group = key.includes("/") ? key.split("/")[0] : "general";
      groups.set(group, (groups.get(group) || new Set()).add(key));
    }
  }
  return [...groups].sort().map(([group, keys]) => el("optgroup", { label: group }, [...keys].sort().map((key) => el("option", { value: key }, key))));
}

function stageChips() {
  return facts.curves.map((stage, index) => {
    const box = el("input", { type: "checkbox", checked: !view.hidden.has(index), onchange: () => {
      if (box.checked) view.hidden.delete(index);
      else view.hidden.add(index);
      drawAll();
    } });
    return el("label.chip", {}, box, el("i", { style: { background: `var(--s${index % PALETTE})` } }), stageLabel(stage.run, stage.stage));
  });
}

/** Where the seconds went: one bar for each stage. */
function timeBars() {
  const stages = facts.curves.filter((stage) => Object.keys(stage.time).length);
  if (!stages.length) return [];
  const parts = [...new Set(stages.flatMap((stage) => Object.keys(stage.time)))];
  const rows = stages.map((stage) => {
    const total = Object.values(stage.time).reduce((sum, value) => sum + value, 0) || 1;
    const bars = parts.filter((part) => stage.time[part]).map((part) => {
      const share = (100 * stage.time[part]) / total;
      const said = `${part} ${share.toFixed(0)} %`;
      return el("span.part", { title: `${said}, ${short(stage.time[part])} s`, style: { width: `${share}%`, background: `var(--s${parts.indexOf(part) % PALETTE})` } }, share > 12 ? said : "");
    });
    return el("div.time-row", {}, el("span.name", {}, stageLabel(stage.run, stage.stage)), el("div.time-bar", { role: "img", "aria-label": parts.map((part) => `${part} ${short(stage.time[part] || 0)} s`).join(", ") }, bars));
  });
  return [el("h4", {}, "Where the time went"), ...rows];
}

function setUpCurves() {
  if (!facts.curves.length) return;
  byId("stage-chips").append(...stageChips());
  const available = ["step", "iteration", "time_s"].filter((axis) => facts.curves.some((stage) => stage.axes[axis]));
  byId("axis").append(...available.map((axis) => el("option", { value: axis }, AXIS_NAMES[axis])));
  view.axis = available[0] || "row";
  byId("axis").addEventListener("change", (event) => { view.axis = event.target.value; drawAll(); });
  byId("smoothing").addEventListener("change", (event) => { view.smoothing = Number(event.target.value); drawAll(); });
  const metric = byId("metric");
  metric.append(...metricOptions());
  view.metric = metric.value;
  metric.addEventListener("change", () => { view.metric = metric.value; drawAnyMetric(); });
  byId("time-bars").append(...timeBars());
  document.querySelectorAll("details.fold").forEach((fold) => fold.addEventListener("toggle", () => {
    if (fold.open) fold.querySelectorAll(".charts[data-group]").forEach(drawGroup);
  }));
  drawAll();
  let pending = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(() => figures.forEach((figure) => figure.resize()));
  });
}
