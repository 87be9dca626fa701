// Small helpers. Text reaches the page through textContent only: nothing a model wrote is ever parsed as HTML.

const facts = JSON.parse(document.getElementById("facts").textContent);

/** An element: el("button.quiet", {type: "button", onclick}, "Next", child...). */
function el(selector, attributes = {}, ...children) {
  const [tag, ...classes] = selector.split(".");
  const node = document.createElement(tag || "div");
  if (classes.length) node.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

const byId = (id) => document.getElementById(id);

function several() {
  return facts.runs.length > 1;
}

/** "stage", or "run · stage" where the page has several runs. */
function stageLabel(run, stage) {
  const found = facts.runs[run].stages[stage];
  return several() ? `${facts.runs[run].label} · ${found.name}` : found.name;
}

/** 0.00031 -> 3.1e-4, 12345.6 -> 12,346: short, and never more digits than a reader needs; `digits`: at least these. */
function short(value, digits = 0) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e7) return value.toExponential(Math.max(1, digits - 1)).replace("e+", "e");
  if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: Math.max(0, digits - Math.floor(Math.log10(size)) - 1) });
  return String(Number(value.toPrecision(Math.max(3, digits))));
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Copy text; without the clipboard API (some browsers, for pages from disk) through a hidden field. */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = el("textarea", { style: { position: "fixed", opacity: "0" } });
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}
