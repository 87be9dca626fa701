// Side by side: what the policy answered to one question at several steps, each response beside the one before.

const COLUMNS = 16;
const families = new Map();

function questionOf(row) {
  return `${row.prompt}\n${row.question}`;
}

/** Every shown rollout of the same question, by run, stage and step. */
function family(row) {
  if (!families.size) {
    rollouts.forEach((one) => {
      const key = questionOf(one);
      if (!families.has(key)) families.set(key, []);
      families.get(key).push(one);
    });
    families.forEach((rows) => rows.sort((a, b) => a.run - b.run || a.stage - b.stage || a.step - b.step));
  }
  const rows = families.get(questionOf(row)).filter((one) => one.run === row.run);
  return new Set(rows.map((one) => `${one.stage} ${one.step}`)).size > 1 ? rows : [row];
}

/** The strip above a rollout: a mark for each other step, and the way to see all of them. */
function otherSteps(row) {
  const rows = family(row);
  if (rows.length < 2 && !elsewhere(row).length) return null;
  const stages = new Set(rows.map((one) => one.stage)).size;
  const marks = rows.slice(0, 2 * COLUMNS).map((one, i, shown) => {
    const said = `${stageName(one)}, step ${one.step}: ${VERDICTS[one.verdict]}`;
    const mark = el(`button.step-mark.${one.verdict}${one === row ? ".current" : ""}`, { type: "button", title: said, "aria-label": said, "aria-current": one === row ? "true" : null, onclick: () => showOne(one) }, `${MARKS[one.verdict]} ${one.step}`);
    return [stages > 1 && shown[i - 1]?.stage !== one.stage ? el("span.hint", {}, stageName(one)) : null, mark];
  });
  return el("div.steps", {}, el("span.hint", {}, rows.length > 1 ? "Same question at step" : "Same question"), marks.flat(), el("button.quiet", { type: "button", id: "beside-open", onclick: () => showBeside(row) }, "Side by side"));
}

/** The same question's rollouts in other runs. */
function elsewhere(row) {
  return families.get(questionOf(row)).filter((one) => one.run !== row.run);
}

function showOne(row) {
  if (browser.found.includes(row)) go(browser.found.indexOf(row));
  else openRollout(row);
}

/** One a stage and step, the row itself rather than another of its step; at most COLUMNS, evenly spaced. */
function columnsOf(row) {
  const all = byId("beside-of")?.value === "all";
  const members = families.get(questionOf(row)).filter((one) => all || one.run === row.run);
  const chosen = new Map();
  for (const one of members) {
    const place = all ? `${one.run}` : `${one.stage} ${one.step}`;
    if (all || !chosen.has(place) || one === row) chosen.set(place, one);
  }
  const rows = [...chosen.values()];
  if (rows.length <= COLUMNS) return rows;
  return Array.from({ length: COLUMNS }, (_, i) => rows[Math.round((i * (rows.length - 1)) / (COLUMNS - 1))]);
}

function column(row, before) {
  const known = new Set(before ? before.response.split("\n").map((line) => line.trim()) : []);
  const lines = row.response.slice(row.given).split("\n").map((line) => {
    const fresh = before && line.trim() && !known.has(line.trim());
    return [fresh ? el("ins", {}, line) : line, "\n"];
  });
  const scores = row.scores.map((score) => el("li", {}, el("b", {}, score.name), " ", score.value === null ? el("span.none", {}, "unscored") : score.value.toFixed(3), score.reason ? el("span.details", {}, score.reason) : null));
  return el("article.column", { "aria-label": `${stageLabel(row.run, row.stage)}, step ${row.step}` },
    el("h4", {}, `step ${row.step}`), el("p.where", {}, stageLabel(row.run, row.stage)), el("p.badges", {}, badges(row)), el("pre", { tabindex: "0" }, lines.flat()), el("ul.column-scores", {}, scores));
}

function showBeside(row) {
  browser.beside = row;
  if (byId("beside-of") && family(row).length < 2) byId("beside-of").value = "all";
  const rows = columnsOf(row);
  const all = byId("beside-of")?.value === "all";
  byId("beside-title").textContent = `Side by side: ${row.question || row.prompt}`;
  byId("beside-columns").replaceChildren(...rows.map((one, i) => column(one, all ? rows[0] === one ? null : rows[0] : rows[i - 1])));
  byId("beside").hidden = false;
  byId("beside").scrollIntoView({ block: "nearest" });
  byId("beside-columns").focus({ preventScroll: true });
}

function setUpBeside() {
  if (!byId("beside")) return;
  const close = () => { byId("beside").hidden = true; byId("beside-open")?.focus(); };
  byId("beside-close").addEventListener("click", close);
  byId("beside").addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  byId("beside-of")?.addEventListener("change", () => showBeside(browser.beside));
}
