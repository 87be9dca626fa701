// The frame around the page. A newer page is loaded behind the one that is read, gets the reader's place (fields, folds,
// scrolling, focus, the chosen rollout, charts looked at closely), and then takes its place.
"use strict";
(() => {
const POLL_MS = 2000;
const SETTLE_MS = 120; // folds that are opened draw their charts a moment later
const STILL_MS = 1500; // after a key or a click nothing is changed for so long
const CONTROLS = "input, select, textarea";
const FOLDS = "details";
const ANCHORS = "section, h2, h3, h4, figure, summary, tr, li, p";
const byId = (id) => document.getElementById(id);
const reader = { shown: null, version: "", touched: 0, since: 0, initial: new Map(), loading: false };

/** Key -> element, alike in two versions of the page: by id, else by what it is called and where it stands. */
function named(doc, selector) {
  const found = new Map();
  const alike = new Map();
  for (const node of doc.querySelectorAll(selector)) {
    const near = node.parentElement?.closest("[id]");
    const label = node.matches("input, select, textarea") ? node.closest("label") : node.matches("details") ? node.querySelector("summary") : node;
    const text = [...(label || node).childNodes].map((child) => (child.nodeType === 3 ? child.data.trim() : "")).join(" ").trim() || (label || node).textContent.trim();
    const name = node.id ? `#${node.id}` : `${near ? near.id : ""}|${node.tagName}|${node.getAttribute("data-group") || ""}|${text.slice(0, 80)}`;
    alike.set(name, (alike.get(name) || 0) + 1);
    found.set(`${name}|${alike.get(name)}`, node);
  }
  return found;
}

const ticks = (node) => node.type === "checkbox" || node.type === "radio";
const valueOf = (node) => (node.tagName === "DETAILS" ? node.open : ticks(node) ? node.checked : node.value);

function values(doc) {
  return new Map([...named(doc, `${CONTROLS}, ${FOLDS}`)].map(([key, node]) => [key, valueOf(node)]));
}

/** Everything that the reader did to this page. */
function placeOf(frame) {
  const doc = frame.contentDocument;
  const win = frame.contentWindow;
  const changed = [...values(doc)].filter(([key, value]) => reader.initial.has(key) && reader.initial.get(key) !== value);
  const anchors = [];
  for (const [key, node] of named(doc, ANCHORS)) {
    const { top, height } = node.getBoundingClientRect();
    if (height && top >= 0 && top < win.innerHeight) anchors.push([key, top]);
    if (anchors.length >= 12) break;
  }
  const scrolled = [...named(doc, "[id], .scroll, pre")].filter(([, node]) => node.scrollTop || node.scrollLeft).map(([key, node]) => [key, node.scrollTop, node.scrollLeft]);
  const active = doc.activeElement;
  const focus = [...named(doc, "a, button, summary, [tabindex], " + CONTROLS)].find(([, node]) => node === active)?.[0];
  let selection = null;
  try { selection = active && [active.selectionStart, active.selectionEnd]; } catch { /* not a field with text */ }
  const own = {};
  doc.dispatchEvent(new win.CustomEvent("yonder:keep", { detail: own }));
  return { changed, anchors, scrolled, focus, selection, own, y: win.scrollY, focused: document.activeElement === frame };
}

function put(node, value) {
  if (node.tagName === "DETAILS") { node.open = value; return; }
  if (ticks(node)) {
    if (node.type === "radio" ? value && !node.checked : node.checked !== value) node.click();
    return;
  }
  const before = node.value;
  node.value = value;
  if (node.value !== value) node.value = before; // an option that is gone
  for (const name of ["input", "change"]) node.dispatchEvent(new node.ownerDocument.defaultView.Event(name, { bubbles: true }));
}

async function bring(frame, place) {
  const doc = frame.contentDocument;
  const win = frame.contentWindow;
  for (const selector of [CONTROLS, FOLDS, FOLDS]) { // fields draw charts anew, folds draw theirs, which have folds
    const nodes = named(doc, selector);
    for (const [key, value] of place.changed) if (nodes.has(key) && valueOf(nodes.get(key)) !== value) put(nodes.get(key), value);
    if (selector === FOLDS) await new Promise((done) => setTimeout(done, SETTLE_MS));
  }
  doc.dispatchEvent(new win.CustomEvent("yonder:return", { detail: place.own }));
  const boxes = named(doc, "[id], .scroll, pre");
  for (const [key, top, left] of place.scrolled) boxes.get(key)?.scrollTo({ top, left, behavior: "instant" });
  const anchors = named(doc, ANCHORS);
  const anchor = place.y > 0 && place.anchors.find(([key]) => anchors.has(key));
  const top = anchor ? win.scrollY + anchors.get(anchor[0]).getBoundingClientRect().top - anchor[1] : place.y;
  win.scrollTo({ top, behavior: "instant" });
  const node = place.focus && named(doc, "a, button, summary, [tabindex], " + CONTROLS).get(place.focus);
  return () => {
    if (place.focused) frame.focus();
    node?.focus({ preventScroll: true });
    try { if (node && place.selection) node.setSelectionRange(...place.selection); } catch { /* not a field with text */ }
  };
}

/** Load the page of this version behind the one that is read, and swap them. */
async function load(version) {
  const next = document.createElement("iframe");
  next.className = "coming";
  next.title = "The page of the run";
  next.src = `/page?version=${encodeURIComponent(version)}`;
  const loaded = new Promise((done) => next.addEventListener("load", done, { once: true }));
  byId("stage").append(next);
  await loaded;
  if (!next.contentDocument?.querySelector("main")) { next.remove(); return; } // an error: the next look tries again
  const initial = values(next.contentDocument);
  const old = reader.shown;
  let focus = () => {};
  if (old) {
    while (busy()) await new Promise((done) => setTimeout(done, 200));
    focus = await bring(next, placeOf(old));
  }
  Object.assign(reader, { shown: next, version, initial, since: Date.now() });
  next.className = "";
  focus();
  old?.remove();
  byId("empty")?.remove();
  for (const name of ["keydown", "pointerdown", "pointermove", "wheel"]) next.contentWindow.addEventListener(name, touched, { passive: true });
  follow(next.contentDocument);
}

function touched(event) {
  if (event.type !== "pointermove" || event.buttons) reader.touched = Date.now();
}

/** Whether the reader is at work: typing, clicking, scrolling, or with words marked, perhaps to copy them. */
function busy() {
  const marked = reader.shown.contentDocument.getSelection();
  return Date.now() - reader.touched < STILL_MS || Boolean(marked && !marked.isCollapsed);
}

/** The frame has the theme that was chosen in the page. */
function follow(doc) {
  const copy = () => {
    const theme = doc.documentElement.dataset.theme;
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  copy();
  new MutationObserver(copy).observe(doc.documentElement, { attributeFilter: ["data-theme"] });
}

function tell(state, line) {
  const badge = byId("state");
  if (badge.textContent !== state) badge.textContent = state; // it is read aloud when it changes
  badge.dataset.state = state;
  byId("line").textContent = line;
  const age = Math.round((Date.now() - reader.since) / 1000);
  byId("age").textContent = reader.since ? (age < 90 ? `figures ${age} s old` : `figures ${Math.round(age / 60)} min old`) : "";
  const title = reader.shown?.contentDocument?.title || "Watching · Yonder";
  document.title = `${state === "running" ? "● " : ""}${title}`;
}

async function look() {
  if (document.hidden || reader.loading) return;
  reader.loading = true;
  try {
    const status = await (await fetch("/status")).json();
    tell(status.state, status.line);
    const held = byId("pause").getAttribute("aria-pressed") === "true";
    if (status.version && status.version !== reader.version && !held && !(reader.shown && busy())) await load(status.version);
  } catch {
    tell("gone", "yonder watch does not answer; start it again to see more");
  } finally {
    reader.loading = false;
  }
}

byId("pause").addEventListener("click", () => {
  const on = byId("pause").getAttribute("aria-pressed") !== "true";
  byId("pause").setAttribute("aria-pressed", String(on));
  if (!on) look();
});
document.addEventListener("visibilitychange", look);
setInterval(look, POLL_MS);
look();
})();
