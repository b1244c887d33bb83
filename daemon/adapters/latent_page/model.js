// The model's document, and what all parts of the page draw it with: numbers, names, small charts.
"use strict";

const D = JSON.parse($("data").textContent);

// ---------------------------------------------------------------- numbers, names and colours
const DECIMALS = new Map(D.sensors.map((s) => [s.sensor, s.decimals]));

/** A sensor's value with as many decimals as its spread deserves. */
function real(v, sensor) {
  if (missing(v)) return "–";
  const places = DECIMALS.get(sensor);
  if (places > 6) return value(v);
  const text = v.toLocaleString("en-US", { maximumFractionDigits: places }).replace("-", "−");
  return text === "−0" ? "0" : text;
}

const signed = (v, sensor) => (v > 0 ? "+" : "") + real(v, sensor);
const signedStep = (s) => (s > 0 ? "+" : s < 0 ? "−" : "") + Math.abs(s);

/** "2026-03-10 14:02" of milliseconds since the epoch. */
const minute = (ms) => new Date(ms).toISOString().slice(0, 16).replace("T", " ");
/** The same of an ISO time. */
const toMinute = (text) => stamp(text).slice(0, 16);

const REGIMES = ["#3d6db3", "#e0912f", "#3c9d6b", "#9a63c7", "#8a6d5a", "#d877a8", "#6b7f8c", "#b0a52e"];
const regimeColour = (number) => REGIMES[(number - 1) % REGIMES.length];

// The window's time axis, in the largest unit that gives whole numbers to read.
const LENGTH = D.window * D.period_seconds;
const UNITS = [[1, "s", 180], [60, "min", 10800], [3600, "h", 259200], [86400, "days", Infinity]];
const UNIT = UNITS.find(([, , most]) => LENGTH < most);
const X = D.seconds.map((s) => s / UNIT[0]);

const dimensions = new Map(D.dimensions.map((d) => [d.dimension, d]));
const clusters = new Map(D.clusters.map((c) => [c.cluster, c]));
const active = D.dimensions.filter((d) => d.active);
const directionName = (d) => "Direction " + d.dimension + (d.name ? ": " + d.name : "");
const clusterName = (c) => "Regime " + c.cluster + (c.name ? ": " + c.name : "");
const regimeName = (number) => clusterName(clusters.get(number));
const sumShares = (list) => list.reduce((sum, d) => sum + d.share, 0);

/** As many directions as do nine tenths of it all, but never so many that nobody reads them. */
function leadingCount() {
  let n = 0;
  while (n < active.length && n < 8 && (n < 3 || sumShares(active.slice(0, n)) < 0.9)) n++;
  return n;
}
const LEADING = leadingCount();

/** The usual range of each sensor; null where no readings are known. */
const RANGES = new Map(D.sensors.map((s) => [s.sensor, s.low === null ? null : [s.low, s.high]]));

// ---------------------------------------------------------------- charts
const repaint = []; // draws each chart again, in other colours

/** Draws a chart now, and whenever the colours change. */
function chart(draw) {
  draw();
  repaint.push(draw);
}

/** Gives a chart's place its height before the chart is drawn, so that nothing is laid out over it. */
function tall(id, height) {
  $(id).style.height = height + 2 + "px"; // and its border
  return height;
}

/** A button that shows the rest of a list, once. */
function revealing(text, reveal) {
  const button = h("button", "link", text);
  button.addEventListener("click", () => {
    button.remove();
    reveal();
  });
  return button;
}

/** A small chart of curves over the window; `foot` shows the time axis, `band` the usual range. */
function smallChart(node, curves, foot, band) {
  const lines = curves.map((c) => ({
    x: X,
    y: c.y,
    mode: X.length < 2 ? "markers" : "lines",
    line: { color: colour(c.colour), width: c.width || 1.5, dash: c.dash || "solid" },
    hovertemplate: "%{y:.6g}<br>" + c.label + "<extra></extra>",
  }));
  const usual = band && {
    type: "rect", xref: "paper", x0: 0, x1: 1, y0: band[0], y1: band[1],
    layer: "below", line: { width: 0 }, fillcolor: colour("line"), opacity: 0.55,
  };
  const look = {
    shapes: band ? [usual] : [],
    margin: { l: 56, r: 24, t: 6, b: foot ? 22 : 6 },
    xaxis: axis({ showticklabels: foot, ticksuffix: " " + UNIT[1], nticks: 5, fixedrange: true }),
    yaxis: axis({ nticks: 4, fixedrange: true }),
  };
  Plotly.react(node, lines, layout(look), CONFIG);
}

/**
 * Puts a small chart per sensor into a box, and returns what draws them: plotly.js measures a
 * chart's place, so it must stand in the page first.
 */
function sensorCharts(box, items) {
  const draws = items.map((item, i) => {
    const foot = i === items.length - 1;
    const plot = h("div", foot ? "plot foot" : "plot");
    box.append(h("h4", "", h("span", "", ...breakable(item.name)), h("span", "num", item.note)), plot);
    return () => chart(() => smallChart(plot, item.curves, foot, item.band));
  });
  return () => draws.forEach((draw) => draw());
}
