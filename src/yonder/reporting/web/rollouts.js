// The rollouts browser: filters on the left of the data, a paged list, and one rollout in full.

const PAGE = 20;
const rollouts = facts.rollouts.rows;
const browser = { found: [], at: 0, kind: "all" };
const MARKS = { right: "✓", wrong: "✕", unknown: "·" };
const VERDICTS = { right: "right", wrong: "wrong", unknown: "not verified" };
const KINDS = [
  ["all", "All", () => true],
  ["liked wrongly", "Liked wrongly", (row) => row.opinion === "liked wrongly"],
  ["disliked wrongly", "Disliked wrongly", (row) => row.opinion === "disliked wrongly"],
  ["right", "Right", (row) => row.verdict === "right"],
  ["wrong", "Wrong", (row) => row.verdict === "wrong"],
  ["unknown", "Not verified", (row) => row.verdict === "unknown"],
  ["unscored", "Unscored", (row) => row.unscored],
  ["several steps", "At several steps", (row) => family(row).length > 1],
];
const FILTERS = ["search", "step-from", "step-to", "rollout-run", "rollout-stage", "rollout-stream", "rollout-term"];
const ORDERS = {
  first: (a, b) => a.step - b.step,
  last: (a, b) => b.step - a.step,
  high: (a, b) => (b.liking ?? -1) - (a.liking ?? -1),
  low: (a, b) => (a.liking ?? 2) - (b.liking ?? 2),
};

function stageName(row) {
  return facts.runs[row.run].stages[row.stage].name;
}

/** judge@unlabeled for each reward that saw the rollout: terms, and probes beside them. */
function termsOf(row) {
  row.terms ??= row.scores.map((score) => `${score.name}@${row.stream}`);
  return row.terms;
}

function haystack(row) {
  row.text ??= [row.question, row.response, row.answer, row.prompt, ...row.scores.map((score) => `${score.name} ${score.reason}`)].join("\n").toLowerCase();
  return row.text;
}

function passes(row) {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const run = byId("rollout-run")?.value || "";
  const stage = byId("rollout-stage").value;
  const term = byId("rollout-term").value;
  const from = byId("step-from").value;
  const to = byId("step-to").value;
  return (run === "" || row.run === Number(run)) && (!stage || stageName(row) === stage)
    && (!term || termsOf(row).includes(term))
    && (!byId("rollout-stream").value || row.stream === byId("rollout-stream").value)
    && (from === "" || row.step >= Number(from)) && (to === "" || row.step <= Number(to))
    && words.every((word) => haystack(row).includes(word));
}

function filterRollouts(keep = null) {
  const before = rollouts.filter(passes);
  KINDS.forEach(([kind, , test]) => { byId(`count-${kind.replaceAll(" ", "-")}`).textContent = before.filter(test).length; });
  const test = KINDS.find(([kind]) => kind === browser.kind)[2];
  browser.found = before.filter(test).sort(ORDERS[byId("rollout-order").value]);
  browser.at = Math.max(0, keep ? browser.found.indexOf(keep) : 0);
  showRollout();
}

function snippet(row) {
  const like = row.liking === null ? "" : row.liking.toFixed(2);
  const where = `${stageLabel(row.run, row.stage)} · ${row.stream} · step ${row.step}`;
  return [
    el(`span.mark.${row.verdict}`, { title: VERDICTS[row.verdict] }, MARKS[row.verdict]),
    el("span.words", {}, el("span.question-line", {}, row.question || row.prompt || "(no question)"), el("span.where", {}, where)),
    el(`span.like${row.opinion ? ".odd" : ""}`, { title: "highest score of a reward other than the verifier" }, like),
  ];
}

function showList() {
  const page = Math.floor(browser.at / PAGE);
  const rows = browser.found.slice(page * PAGE, (page + 1) * PAGE);
  const list = byId("rollout-list");
  list.replaceChildren(...rows.map((row, i) => {
    const at = page * PAGE + i;
    return el(`li${at === browser.at ? ".current" : ""}`, { id: `option-${at}`, role: "option", "aria-selected": String(at === browser.at), onclick: () => go(at) }, snippet(row));
  }));
  if (rows.length) list.setAttribute("aria-activedescendant", `option-${browser.at}`);
  else list.removeAttribute("aria-activedescendant");
  const current = list.querySelector(".current");
  if (current) list.scrollTop = Math.min(current.offsetTop, Math.max(list.scrollTop, current.offsetTop + current.offsetHeight - list.clientHeight));
  const pages = Math.max(1, Math.ceil(browser.found.length / PAGE));
  byId("page-of").textContent = browser.found.length ? `Page ${page + 1} of ${pages}` : "Nothing matches";
  byId("page-back").disabled = page === 0;
  byId("page-on").disabled = page >= pages - 1;
  byId("found").textContent = `${browser.found.length.toLocaleString("en")} of ${rollouts.length.toLocaleString("en")} shown match`;
}

/** Given prefix dimmed, what the policy wrote plain. */
function program(row) {
  return el("pre.program", { tabindex: "0" }, row.given ? el("span.given", { title: "given, not generated" }, row.response.slice(0, row.given)) : null, row.response.slice(row.given));
}

function scoreRow(score) {
  const details = Object.entries(score.details).map(([key, value]) => `${key} ${typeof value === "number" ? short(value) : value}`).join(" · ");
  const bar = score.value === null ? el("span.none", {}, "unscored")
    : [el("span.meter", { "aria-hidden": "true" }, el("i", { style: { width: `${100 * Math.min(1, Math.max(0, score.value))}%` } })), el("span.num", {}, score.value.toFixed(3))];
  return el("tr", {}, el("th", { scope: "row" }, score.name), el("td.score", {}, bar), el("td", {}, score.reason || "–", details ? el("span.details", {}, details) : null));
}

function badges(row) {
  const found = [[VERDICTS[row.verdict], row.verdict]];
  if (row.opinion) found.push([row.opinion, "odd"]);
  if (row.unscored) found.push(["unscored", "plain"]);
  if (row.finished === false) found.push(["cut at the length limit", "plain"]);
  return found.map(([text, kind]) => el(`span.badge.${kind}`, {}, text));
}

function showRollout() {
  showList();
  const target = byId("rollout");
  const row = browser.found[browser.at];
  byId("rollout-back").disabled = browser.at <= 0;
  byId("rollout-on").disabled = browser.at >= browser.found.length - 1;
  byId("rollout-at").textContent = row ? `${browser.at + 1} of ${browser.found.length}` : "";
  if (!row) {
    target.replaceChildren(el("p.empty", {}, "No rollout matches. Widen the search or the filters."));
    return;
  }
  const where = [stageLabel(row.run, row.stage), row.stream, `step ${row.step}`, row.prompt, row.tokens === null ? "" : `${row.tokens} tokens`];
  const parts = [
    el("p.where", {}, where.filter(Boolean).join(" · ")),
    el("p.badges", {}, badges(row)),
    otherSteps(row),
    el("h3.minor", {}, "Question"), el("p.question", {}, row.question || "–"),
    el("h3.minor", {}, "Response"), program(row),
    el("h3.minor", {}, "Right answer"), el("p.answer", {}, row.answer ?? "not known: this stream has no labels"),
    el("h3.minor", {}, "Scores"),
    row.scores.length ? el("div.scroll", { tabindex: "0" }, el("table.scores", {}, el("thead", {}, el("tr", {}, ["reward", "score", "reason"].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, row.scores.map(scoreRow)))) : el("p.empty", {}, "No reward has scored it."),
  ];
  target.replaceChildren(...parts.filter(Boolean));
}

function go(at) {
  if (at < 0 || at >= browser.found.length || at === browser.at) return;
  browser.at = at;
  showRollout();
}

function setKind(kind) {
  browser.kind = kind;
  byId(`kind-${kind.replaceAll(" ", "-")}`).checked = true;
}

/** From the judge panel: show exactly this rollout, among its like. */
function openRollout(row) {
  for (const id of FILTERS) if (byId(id)) byId(id).value = "";
  setKind(row.opinion || "all");
  byId("rollout-order").value = "high";
  filterRollouts(row);
  byId("rollouts").scrollIntoView();
  byId("rollout-list").focus({ preventScroll: true });
}

function likedWrongly() {
  const target = byId("liked-wrongly");
  if (!target || !facts.rollouts.liked_wrongly.length) return;
  target.replaceChildren(...facts.rollouts.liked_wrongly.map((index) => {
    const row = rollouts[index];
    const reasons = row.scores.filter((score) => score.reason).map((score) => `${score.name}: ${score.reason}`).join(" · ");
    return el("li", {}, el("button.sample", { type: "button", onclick: () => openRollout(row) },
      el("span.like.odd", {}, row.liking.toFixed(3)),
      el("span.words", {}, el("span.question-line", {}, row.question || row.prompt), el("code", {}, row.response.slice(row.given).trim().split("\n").slice(-3).join(" ⏎ ")), el("span.where", {}, `${stageLabel(row.run, row.stage)} · step ${row.step}${reasons ? ` · ${reasons}` : ""}`))));
  }));
}

function onKey(event) {
  const typing = event.target.closest("input:not([type=radio]), select, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const inList = event.target.closest("#rollout-list");
  const moves = { j: 1, k: -1, ...(inList ? { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE } : {}) };
  if (event.key in moves) {
    event.preventDefault();
    go(Math.min(browser.found.length - 1, Math.max(0, browser.at + moves[event.key])));
  } else if (inList && (event.key === "Home" || event.key === "End")) {
    event.preventDefault();
    go(event.key === "Home" ? 0 : browser.found.length - 1);
  } else if (event.key === "/") {
    event.preventDefault();
    byId("search").focus();
  }
}

function setUpRollouts() {
  likedWrongly();
  if (!rollouts.length) return;
  const option = (value, text) => el("option", { value }, text);
  const choices = (id, first, values, text = (value) => value) => byId(id)?.append(option("", first), ...[...new Set(values)].map((value) => option(value, text(value))));
  choices("rollout-run", "All runs", rollouts.map((row) => row.run).sort((a, b) => a - b), (run) => facts.runs[run].label);
  choices("rollout-stage", "All stages", rollouts.map(stageName));
  choices("rollout-stream", "All streams", rollouts.map((row) => row.stream).filter(Boolean));
  choices("rollout-term", "All", rollouts.flatMap(termsOf).sort());
  byId("kinds").append(...KINDS.map(([kind, text]) => {
    const id = kind.replaceAll(" ", "-");
    return el("label.chip", {}, el("input", { type: "radio", name: "kind", id: `kind-${id}`, value: kind, checked: kind === "all", onchange: () => { browser.kind = kind; filterRollouts(); } }), text, el("b", { id: `count-${id}` }));
  }));
  for (const id of [...FILTERS.slice(1), "rollout-order"]) byId(id)?.addEventListener("change", () => filterRollouts());
  byId("search").addEventListener("input", () => filterRollouts());
  byId("page-back").addEventListener("click", () => go(Math.max(0, (Math.floor(browser.at / PAGE) - 1) * PAGE)));
  byId("page-on").addEventListener("click", () => go(Math.min(browser.found.length - 1, (Math.floor(browser.at / PAGE) + 1) * PAGE)));
  byId("rollout-back").addEventListener("click", () => go(browser.at - 1));
  byId("rollout-on").addEventListener("click", () => go(browser.at + 1));
  document.addEventListener("keydown", onKey);
  filterRollouts();
}
