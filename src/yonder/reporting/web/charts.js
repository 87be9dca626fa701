// Line charts over uPlot: one figure with its legend, linked cursors, and a table that says the same.

const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [5, 2]];
const PALETTE = 8;
const figures = new Set();

function seriesColour(index) {
  return colour(`--s${index % PALETTE}`);
}

/** A line's colour with the given opacity, for the raw values under a smoothed line. */
function faint(index) {
  return seriesColour(index) + "48";
}

/** Centred running mean over `width` points; missing values stay missing. */
function smooth(values, width) {
  if (width <= 1) return values;
  const half = Math.floor(width / 2);
  return values.map((value, at) => {
    if (value === null) return null;
    const window = values.slice(Math.max(0, at - half), at + half + 1).filter((item) => item !== null);
    return window.reduce((sum, item) => sum + item, 0) / window.length;
  });
}

/**
 * A figure. lines: [{label, colour, dash, x, y, behind}], where `behind` is a list of {x, y} drawn thin below the line; options: {title, hint, unit, percent, smoothing, xLabel, height, log}.
 * Returns the element; call .draw() on it once it is in the page.
 */
function lineFigure(lines, options) {
  const show = (value) => (value === null || value === undefined ? "–" : options.percent ? `${(100 * value).toFixed(1)} %` : short(value));
  const values = lines.map(() => el("span.value"));
  const swatches = lines.map((line) => swatch(line));
  const legend = el("ul.legend", {}, lines.map((line, i) => el("li", {}, swatches[i], el("span", {}, line.label), values[i])));
  const plot = el("div.plot", { "aria-hidden": "true" });
  const unit = options.unit ? el("span.unit", {}, options.unit) : null;
  const figure = el("figure.chart", {},
    el("figcaption", {}, el("strong", {}, options.title), unit, options.hint ? el("span.hint", {}, options.hint) : null),
    plot, legend, dataTable(lines, options, show));
  const setValues = (pick) => lines.forEach((line, i) => { values[i].textContent = show(pick(line, i)); });
  const lastOf = (line) => line.y.findLast((value) => value !== null);
  setValues(lastOf);
  let chart = null;
  figure.draw = () => {
    if (chart || !lines.length || !plot.clientWidth) return;
    chart = makePlot(plot, lines, options, show, (u) => {
      const at = u.cursor.idx;
      setValues((line, i) => (at === null || at === undefined ? lastOf(line) : u.data[u.data.length - lines.length + i][at]));
    });
    figures.add(figure);
  };
  figure.resize = () => chart && plot.clientWidth && chart.setSize({ width: plot.clientWidth, height: options.height || 190 });
  figure.repaint = () => {
    chart?.redraw(false, true);
    swatches.forEach((old, i) => { swatches[i] = swatch(lines[i]); old.replaceWith(swatches[i]); });
  };
  figure.name = options.title;
  /** Steps that the reader looks at closely, or null for all; given, they are shown. */
  figure.range = (wanted = null) => {
    if (wanted) chart?.setScale("x", wanted);
    const [first, last] = chart ? [chart.data[0].at(0), chart.data[0].at(-1)] : [];
    const { min, max } = chart ? chart.scales.x : {};
    return chart && (min > first || max < last) ? { min, max } : null;
  };
  figure.destroy = () => { chart?.destroy(); chart = null; figures.delete(figure); };
  return figure;
}

function swatch(line) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("viewBox", "0 0 22 4");
  svg.setAttribute("aria-hidden", "true");
  const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const shape = { x1: 0, x2: 22, y1: 2, y2: 2, stroke: seriesColour(line.colour), "stroke-width": 3 };
  for (const [name, value] of Object.entries(shape)) stroke.setAttribute(name, value);
  if (line.dash % DASHES.length) stroke.setAttribute("stroke-dasharray", DASHES[line.dash % DASHES.length].join(" "));
  svg.append(stroke);
  return svg;
}

function makePlot(target, lines, options, show, onCursor) {
  const smoothing = options.smoothing || 1;
  const raw = lines.flatMap((line) => {
    if (line.behind) return line.behind.map((one) => ({ ...one, y: smooth(one.y, smoothing), colour: line.colour }));
    return smoothing > 1 && !line.plain ? [line] : [];
  });
  const table = uPlot.join([...raw, ...lines.map((line) => ({ ...line, y: smooth(line.y, smoothing) }))].map((line) => [line.x, line.y]));
  const hover = {  // on the drawn lines only, not on the raw values behind them
    size: (u, index) => (index > raw.length ? 7 : 0), width: 1,
    fill: (u, index) => seriesColour((lines[index - 1 - raw.length] || raw[index - 1]).colour), stroke: () => colour("--panel"),
  };
  const axis = {
    stroke: () => colour("--soft"), font: "11px system-ui, sans-serif", gap: 6,
    grid: { stroke: () => colour("--grid"), width: 1 }, ticks: { show: false }, border: { show: false },
  };
  return new uPlot({
    width: target.clientWidth,
    height: options.height || 190,
    padding: [8, 10, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "yonder" }, y: false, points: hover, drag: { x: true, y: false } },
    scales: { x: { time: false }, y: { range: (u, low, high) => yRange(low, high, options) } },
    axes: [
      { ...axis, size: 26, values: (u, ticks) => numbers(ticks) },
      { ...axis, size: 52, values: (u, ticks) => (options.percent ? percents(ticks) : numbers(ticks)) },
    ],
    series: [
      {},
      ...raw.map((line) => ({ stroke: () => faint(line.colour), width: 1, points: { show: false } })),
      ...lines.map((line) => ({
        label: line.label, stroke: () => seriesColour(line.colour), width: 1.8, dash: DASHES[line.dash % DASHES.length],
        points: { show: line.x.length <= 30, size: 5, fill: () => colour("--panel") },
      })),
    ],
    hooks: { setCursor: [onCursor] },
  }, table, target);
}

/** How many digits after the point tell ticks apart; `unit`: a tick of 1 is shown as so many. */
function decimals(ticks, unit = 1) {
  const known = ticks.filter((tick) => tick !== null);
  const step = known.length > 1 ? unit * Math.abs(known[1] - known[0]) : 1;
  return step ? Math.ceil(0.6 - Math.log10(step)) : 0;
}

/** Ticks as `short` says them, with as many digits as tell neighbours apart. */
function numbers(ticks) {
  const places = decimals(ticks);
  return ticks.map((tick) => (tick === null ? "" : short(tick, tick ? places + Math.floor(Math.log10(Math.abs(tick))) + 1 : 0)));
}

/** Ticks of shares in per cent, with as many digits as tell neighbours apart. */
function percents(ticks) {
  const digits = Math.min(9, Math.max(1, decimals(ticks, 100)));
  return ticks.map((tick) => (tick === null ? "" : `${Number((100 * tick).toFixed(digits))} %`));
}

/** A little air above and below; shares stay within 0 and 1; a constant line gets room too. */
function yRange(low, high, options) {
  if (low === null || low === undefined) return [0, 1];
  const air = (high - low || Math.abs(high) || 1) * 0.08;
  const floor = low >= 0 && low - air < 0 ? 0 : low - air;
  return [floor, options.percent ? Math.min(1, high + air) || 1 : high + air];
}

/** The same as text: first, last, least, greatest and mean of every line. Filled when it is opened. */
function dataTable(lines, options, show) {
  const details = el("details.data", {}, el("summary", {}, "Table"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const head = ["line", "first", "last", "least", "greatest", "mean", "points"];
    const rows = lines.map((line) => {
      const found = line.y.filter((value) => value !== null);
      const mean = found.reduce((sum, value) => sum + value, 0) / (found.length || 1);
      const figures = found.length ? [found[0], found.at(-1), Math.min(...found), Math.max(...found), mean] : Array(5).fill(null);
      return el("tr", {}, el("th", { scope: "row" }, line.label), figures.map((value) => el("td", {}, show(value))), el("td", {}, found.length));
    });
    details.append(el("div.scroll", { tabindex: "0" }, el("table.small", {}, el("caption.hidden", {}, `${options.title} by ${options.xLabel}`),
      el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows))));
  });
  return details;
}
