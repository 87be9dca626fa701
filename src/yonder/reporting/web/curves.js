// Learning curves: a figure for each metric. One run: its stages laid over each other. Several: runs, or a sweep's rows.

const view = { axis: "step", smoothing: 5, hidden: new Set(), hiddenGroups: new Set(), hiddenStages: new Set(), seeds: "both", metric: "" };
const stageNames = [...new Set(facts.curves.map((curve) => stageOf(curve).name))];

const PANELS = {
  learning: [
    { title: "Reward", hint: "Mean reward of each term.", match: /^terms\/(.+)\/reward_mean$/ },
    { title: "Accuracy on held-out questions", match: /^(development|held_out)\/accuracy$/, percent: true },
    { title: "Loss of supervised stages", match: /^loss$/, of: (kind) => kind !== "distill" },
  ],
  policy: [
    { title: "Distance from the reference", unit: "KL, nats", match: /^policy\/kl_nats$/ },
    { title: "Entropy", unit: "nats", match: /^policy\/entropy_nats$/ },
    { title: "Length of completions", unit: "tokens", match: /^rollouts\/(.+)\/length_mean$/ },
    { title: "Finished by themselves", match: /^rollouts\/(.+)\/finished$/, percent: true },
    { title: "Different completions", hint: "Of a group: 1 is all different.", match: /^rollouts\/(.+)\/distinct$/, percent: true },
    { title: "Groups without a signal", hint: "All rewards equal: nothing to learn.", match: /^rollouts\/(.+)\/groups_without_signal$/ },
    { title: "Distance from the teacher", unit: "reverse KL, nats", match: /^terms\/(.+)\/reverse_kl$/ },
    { title: "Weight of the term", match: /^terms\/(.+)\/weight$/, varies: true },
    { title: "Scored rollouts", hint: "Unscored ones are left out of the loss.", match: /^terms\/(.+)\/scored$/, percent: true },
    { title: "Clip fraction", match: /^policy\/clip_fraction$/, percent: true },
  ],
  optimisation: [
    { title: "Loss, all terms", match: /^loss$/, of: (kind) => kind === "distill" },
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
    { title: "Right responses the judge dislikes", unit: "false-negative rate", match: /^monitor\/(.+)\/false_negative_rate$/, percent: true },
    { title: "Agreement with the verifier", match: /^monitor\/(.+)\/(?:accuracy|auroc)$/, percent: true },
  ],
};

const AXIS_NAMES = { step: "step", iteration: "iteration", time_s: "minutes", row: "row" };

function axisOf(stage) {
  const values = stage.axes[view.axis] || stage.axes.step || stage.axes.row;
  return view.axis === "time_s" && stage.axes.time_s ? values.map((value) => value / 60) : values;
}

function stageOf(curve) {
  return facts.runs[curve.run].stages[curve.stage];
}

function isHidden(curve, index) {
  if (!several()) return view.hidden.has(index);
  return view.hiddenGroups.has(facts.group_of[curve.run]) || view.hiddenStages.has(stageOf(curve).name);
}

/** What every visible stage has of the metrics that match: [{index, curve, member, x, y}]. */
function found({ match, of = () => true }, keysOf = null) {
  const lines = [];
  facts.curves.forEach((curve, index) => {
    if (isHidden(curve, index) || !of(stageOf(curve).kind)) return;
    const axis = axisOf(curve);
    for (const key of keysOf ? keysOf(curve) : Object.keys(curve.series)) {
      const caught = match.exec(key);
      if (!caught) continue;
      const series = curve.series[key];
      const pairs = series.y.map((value, i) => [axis[series.at ? series.at[i] : i], value]).sort((a, b) => a[0] - b[0]);
      const spaced = pairs.filter((pair, i) => !i || pair[0] > pairs[i - 1][0]);
      lines.push({ index, curve, member: memberName(key, caught[1]), x: spaced.map((pair) => pair[0]), y: spaced.map((pair) => pair[1]) });
    }
  });
  return lines;
}

/** One run: colour is the stage, dash what distinguishes lines within it. */
function linesOfStages(lines) {
  const members = [...new Set(lines.map((line) => line.member))];
  const stages = new Set(lines.map((line) => line.index));
  return lines.map((line) => {
    const { run, stage } = line.curve;
    const parts = [stages.size > 1 || members.length === 1 ? stageLabel(run, stage) : "", members.length > 1 ? line.member : ""];
    return { colour: line.index, dash: members.indexOf(line.member), label: parts.filter(Boolean).join(" · "), x: line.x, y: line.y };
  });
}

/** Several runs: colour is the group (a run, or a sweep's row with all its seeds), dash the stage. */
function linesOfGroups(lines) {
  const names = stageNames.filter((name) => lines.some((line) => stageOf(line.curve).name === name));
  const bundles = new Map();
  for (const line of lines) {
    const [group, name] = [facts.group_of[line.curve.run], stageOf(line.curve).name];
    const key = JSON.stringify([group, name]);
    if (!bundles.has(key)) bundles.set(key, { group, name, lines: [] });
    bundles.get(key).lines.push(line);
  }
  return [...bundles.values()].sort((a, b) => a.group - b.group).flatMap(({ group, name, lines: seeds }) => {
    const line = { colour: group, dash: names.indexOf(name) + Math.floor(group / PALETTE), label: facts.groups[group] + (names.length > 1 ? ` · ${name}` : "") };
    if (seeds.length === 1) return [{ ...line, x: seeds[0].x, y: seeds[0].y, plain: true }];
    if (view.seeds === "each" || view.axis === "time_s") return seeds.map((seed) => ({ ...line, label: stageLabel(seed.curve.run, seed.curve.stage), x: seed.x, y: seed.y, plain: true }));
    return [{ ...line, ...meanOf(seeds), behind: view.seeds === "both" ? seeds.map(({ x, y }) => ({ x, y })) : [] }];
  });
}

/** Mean at each place where every line has a value. */
function meanOf(lines) {
  const at = lines.map((line) => new Map(line.x.map((x, i) => [x, line.y[i]])));
  const x = lines[0].x.filter((place) => at.every((values) => (values.get(place) ?? null) !== null));
  return { x, y: x.map((place) => at.reduce((sum, values) => sum + values.get(place), 0) / at.length) };
}

/** [{panel, lines}]: a figure each. Of several runs, a figure for each member (term, stream...): its lines are the groups. */
function figuresOf(panel, keysOf = null) {
  const lines = found(panel, keysOf).filter((line) => line.y.some((value) => value !== null));
  if (panel.varies && lines.every((line) => new Set(line.y).size === 1)) return [];
  if (!several()) return lines.length ? [{ panel, lines: linesOfStages(lines) }] : [];
  const members = [...new Set(lines.map((line) => line.member))];
  return members.map((member) => {
    const title = members.length > 1 ? `${panel.title} · ${member}` : panel.title;
    return { panel: { ...panel, title }, lines: linesOfGroups(lines.filter((line) => line.member === member)) };
  });
}

/** terms/judge@unlabeled/reward_mean -> judge@unlabeled; monitor/judge/verified_mean -> verified; time/score_s -> score. */
function memberName(key, caught) {
  const last = key.split("/").at(-1);
  if (key.startsWith("monitor/")) {
    const said = { mean: `${caught} says`, verified_mean: "verified", accuracy: `${caught}, accuracy`, auroc: `${caught.replace("/window", "")}, AUROC over the window` };
    return said[last] || caught.replace("/window", ", over the window");
  }
  return caught || "";
}

function drawGroup(container) {
  const group = container.dataset.group;
  container.querySelectorAll("figure").forEach((old) => old.destroy?.());
  const made = PANELS[group].flatMap((panel) => figuresOf(panel)).map(({ panel, lines }) => lineFigure(lines, chartOptions(panel, lines)));
  const empty = el("p.empty", {}, container.dataset.empty || "Nothing was recorded here.");
  container.replaceChildren(...(made.length ? made : [empty]));
  made.forEach((figure) => drawWhenNear.observe(figure));
}

/** A chart costs a few milliseconds: those far below are drawn when a reader comes near, or prints. */
const drawWhenNear = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    entry.target.draw?.();
    drawWhenNear.unobserve(entry.target);
  }
}, { rootMargin: "900px 0px" });

function chartOptions(panel, lines) {
  const shares = lines.every((line) => line.y.every((value) => value === null || (value >= 0 && value <= 1)));
  return { ...panel, percent: Boolean(panel.percent && shares), smoothing: lines.some((line) => line.x.length > 8 * view.smoothing) ? view.smoothing : 1, xLabel: AXIS_NAMES[view.axis] };
}

function drawAnyMetric() {
  const container = byId("any-metric");
  if (!container) return;
  container.querySelectorAll("figure").forEach((old) => old.destroy?.());
  const key = view.metric;
  const [chart] = figuresOf({ match: /^(.*)$/ }, (curve) => (key in curve.series ? [key] : []));
  if (!chart) {
    container.replaceChildren(el("p.empty", {}, "No stage that is shown has this metric."));
    return;
  }
  const figure = lineFigure(chart.lines, { ...chartOptions({ title: key, hint: "Drag to look closer, double-click to look from afar." }, chart.lines), height: 280 });
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

function chip(text, hidden, key, dot) {
  const box = el("input", { type: "checkbox", checked: !hidden.has(key), onchange: () => {
    if (box.checked) hidden.delete(key);
    else hidden.add(key);
    drawAll();
  } });
  return el("label.chip", {}, box, dot === null ? null : el("i", { style: { background: `var(--s${dot % PALETTE})` } }), text);
}

function setUpChips() {
  if (!several()) {
    byId("stage-chips").append(...facts.curves.map((curve, index) => chip(stageLabel(curve.run, curve.stage), view.hidden, index, index)));
    return;
  }
  const kinds = new Map(facts.curves.map((curve) => [stageOf(curve).name, stageOf(curve).kind]));
  const learned = stageNames.filter((name) => kinds.get(name) === "distill");
  if (learned.length) stageNames.filter((name) => !learned.includes(name)).forEach((name) => view.hiddenStages.add(name));
  const groups = [...new Set(facts.curves.map((curve) => facts.group_of[curve.run]))].sort((a, b) => a - b);
  byId("group-chips").append(...groups.map((group) => chip(facts.groups[group], view.hiddenGroups, group, group)));
  byId("stage-chips").append(...stageNames.map((name) => chip(name, view.hiddenStages, name, null)));
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
  setUpChips();
  const available = ["step", "iteration", "time_s"].filter((axis) => facts.curves.some((stage) => stage.axes[axis]));
  byId("axis").append(...available.map((axis) => el("option", { value: axis }, AXIS_NAMES[axis])));
  view.axis = available[0] || "row";
  byId("axis").addEventListener("change", (event) => { view.axis = event.target.value; drawAll(); });
  byId("smoothing").addEventListener("change", (event) => { view.smoothing = Number(event.target.value); drawAll(); });
  byId("seeds")?.addEventListener("change", (event) => { view.seeds = event.target.value; drawAll(); });
  const metric = byId("metric");
  metric.append(...metricOptions());
  view.metric = metric.value;
  metric.addEventListener("change", () => { view.metric = metric.value; drawAnyMetric(); });
  if (facts.curves.length <= 12) byId("time-bars").append(...timeBars());
  document.querySelectorAll("details.fold").forEach((fold) => fold.addEventListener("toggle", () => {
    if (fold.open) fold.querySelectorAll(".charts[data-group]").forEach(drawGroup);
  }));
  drawAll();
  addEventListener("beforeprint", () => document.querySelectorAll("figure.chart").forEach((figure) => figure.draw?.()));
  let pending = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(() => figures.forEach((figure) => figure.resize()));
  });
}
