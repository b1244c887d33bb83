// The page of a model: draws what it has learned from the JSON document in the page.
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

// ---------------------------------------------------------------- heading
function readingTiles() {
  const separate = D.clusters.length > 1;
  return [
    tile("Regimes", count(D.clusters.length), separate ? "states it keeps to" : "no separate states"),
    tile("Windows seen", count(D.windows), "of " + plural(D.map.assets.length, "asset")),
    tile("Episodes", count(D.episode_count), D.episode_count ? "alerts of unusual behaviour" : "nothing to report"),
  ];
}

function heading() {
  $("title").textContent = "What model " + D.version + " has learned";
  $("source").textContent = D.source ? "Shown on the readings of " + D.source : "From the model alone, without readings";
  const leading = "the first " + LEADING + " do " + percent(sumShares(active.slice(0, LEADING)));
  $("tiles").append(
    tile("Sensors", count(D.sensors.length), "judged together"),
    tile("Window", lasting(LENGTH), D.window + " rows, " + lasting(D.period_seconds) + " apart"),
    tile("Directions in use", count(active.length), "of " + D.latents + "; " + leading),
    ...(D.map ? readingTiles() : []),
  );
  $("notes").hidden = !D.notes.length;
  $("notes").append(...D.notes.map((note) => h("li", "", note)));
}

// ---------------------------------------------------------------- what it has learned to watch
const SENSORS_FIRST = 16; // of more than 20 sensors so many are shown at once

function watchLead(known) {
  const bar =
    "The bar says how much of a sensor's ups and downs the model can retrace: near 100\u00a0% it knows the sensor well, near 0\u00a0% it takes it for noise. ";
  const squares =
    "The squares show which directions move the sensor: the stronger the colour, the more. Column numbers are the directions below.";
  return (known ? bar : "") + squares;
}

function usualRange(s) {
  if (s.low === null) return "usually near " + real(s.mean, s.sensor);
  const [low, high] = [real(s.low, s.sensor), real(s.high, s.sensor)];
  return low === high ? "stands at " + low : "usually " + low + " to " + high;
}

/** How much of a sensor the model can retrace, as a bar. */
function retraced(s, known) {
  const bar = h("span", "known");
  if (!known) return bar;
  const fill = h("i");
  fill.style.width = 100 * (s.explained || 0) + "%";
  bar.append(h("span", "", fill), h("span", "num", s.explained === null ? "stands still" : percent(s.explained)));
  return bar;
}

/** A square whose colour says how much a direction moves a sensor; `most` is the full colour. */
function strengthCell(direction, moved, most) {
  const strength = (moved ? moved.unit_sd : 0) / most;
  const cell = h("span", strength > 0.6 ? "strong" : "", h("i", "", direction.dimension));
  cell.style.background = "rgba(var(--heat)," + (0.05 + 0.95 * strength).toFixed(3) + ")";
  const much = moved ? " moves it by " + value(moved.unit_sd, 2) + " of its usual spread" : " does not move it";
  return titled(cell, directionName(direction) + much);
}

function watch() {
  const known = D.sensors.some((s) => s.explained !== null);
  const shown = active.slice(0, 12);
  const moved = new Map(shown.map((d) => [d.dimension, new Map(d.sensors.map((s) => [s.sensor, s]))]));
  const most = Math.max(1e-9, ...shown.flatMap((d) => d.sensors.map((s) => s.unit_sd)));
  $("watchlead").textContent = watchLead(known);
  const numbers = shown.map((d) => titled(h("span", "", d.dimension), directionName(d)));
  const head = [h("span", "", "Sensor"), h("span", "", known ? "Retraced by the model" : "")];
  $("watch").append(h("div", "row head", ...head, h("div", "cells head", ...numbers)));
  const many = D.sensors.length > 20;
  const rows = D.sensors.map((s, place) => {
    const cells = shown.map((d) => strengthCell(d, moved.get(d.dimension).get(s.sensor), most));
    const name = h("span", "name", h("span", "", ...breakable(s.sensor)), h("small", "", usualRange(s)));
    const row = h("div", "row", name, retraced(s, known), h("div", "cells", ...cells));
    row.hidden = many && place >= SENSORS_FIRST;
    return row;
  });
  $("watch").append(...rows);
  if (!many) return;
  const rest = "Show the other " + (D.sensors.length - SENSORS_FIRST) + " sensors";
  $("watch").append(revealing(rest, () => rows.forEach((row) => (row.hidden = false))));
}

// ---------------------------------------------------------------- directions
const STEP_COLOURS = ["down3", "down2", "down1", "ink", "up1", "up2", "up3"];
const STEP_NAMES = ["3 sd down (rare)", "2", "1", "usual", "1", "2", "3 sd up (rare)"];

function directionLead() {
  const base = D.reference;
  const from =
    base.asset === null
      ? "the mean of training"
      : base.what + " (" + base.asset + ", " + toMinute(base.time) + ")";
  return (
    "A direction is something that sensors do together, found by the model itself. Each small chart is one window of " +
    lasting(LENGTH) +
    " as the model expects it, in the sensor's own units, starting from " +
    from +
    (base.condition ? " under the condition " + base.condition : "") +
    ". The thick line is its usual course; the coloured ones show what it becomes as the direction goes up or down. The outermost are rare." +
    (D.source ? " The grey band is where the sensor usually is: what lies outside of it is the model's extrapolation." : "") +
    " Those that do most come first; the numbers are the model's own."
  );
}

/** What a small chart shows of a sensor: its course at each step of the direction. */
function traversal(direction, s) {
  const steps = direction.traversal.steps;
  return {
    name: s.sensor,
    band: RANGES.get(s.sensor),
    note: s.lag ? (s.lag > 0 ? "follows by " : "comes before by ") + lasting(s.lag_seconds) : "",
    curves: direction.traversal.sensors[s.sensor].map((y, i) => ({
      y,
      colour: STEP_COLOURS[i],
      width: steps[i] === 0 ? 2 : 1.3,
      label: steps[i] === 0 ? "usual" : signedStep(steps[i]) + " sd",
    })),
  };
}

/** A direction's card, and what draws its charts. */
function directionCard(d) {
  const title = [h("span", "", directionName(d)), h("span", "", percent(d.share) + " of the movement")];
  const box = h("div");
  const card = h("article", "card direction", h("h3", "", ...title), h("p", "", d.text), box);
  const sensors = d.sensors.filter((s) => s.sensor in d.traversal.sensors);
  const items = sensors.map((s) => traversal(d, s));
  const first = sensors.filter((s, i) => i < 3 && s.unit_sd >= 0.1 * sensors[0].unit_sd).length;
  const draw = sensorCharts(box, items.slice(0, first));
  const rest = items.slice(first);
  if (rest.length)
    card.append(revealing("Show the other " + rest.length + " sensors", () => sensorCharts(card.appendChild(h("div")), rest)()));
  return [card, draw];
}

function addDirections(place, list) {
  const made = list.map(directionCard);
  place.append(...made.map(([card]) => card));
  made.forEach(([, draw]) => draw());
}

/** The button that shows a dozen more directions at a time. */
function moreDirections(rest) {
  const button = $("more");
  let at = 0;
  const label = () => {
    const left = rest.length - at;
    button.hidden = left <= 0;
    const few = at || rest.length > 12 ? " of the other " + left : "";
    const much = percent(sumShares(rest.slice(at)));
    button.textContent = "Show " + Math.min(12, left) + few + " directions, which do " + much + " of the movement";
  };
  button.addEventListener("click", () => {
    addDirections($("others"), rest.slice(at, at + 12));
    at += 12;
    label();
  });
  label();
}

function directions() {
  $("directionlead").textContent = directionLead();
  const step = (name, i) => {
    const line = h("i");
    line.style.background = "var(--" + STEP_COLOURS[i] + ")";
    return h("span", "", line, name);
  };
  $("steps").append(...STEP_NAMES.map(step));
  addDirections($("directions"), active.slice(0, LEADING));
  moreDirections(active.slice(LEADING));
}

// ---------------------------------------------------------------- the map
const pointText = (i) => plainly(D.map.assets[D.map.points.asset[i]]) + ", " + minute(D.map.points.time[i]);

/** Points of the map at these places of the list. */
const pointsAt = (places) => ({
  x: places.map((i) => D.map.points.x[i]),
  y: places.map((i) => D.map.points.y[i]),
  text: places.map(pointText),
  mode: "markers",
});

/** The places at which a list satisfies a condition. */
const placesOf = (list, condition) => list.flatMap((v, i) => (condition(v) ? [i] : []));

const regimePoints = (c) => ({
  ...pointsAt(placesOf(D.map.points.cluster, (k) => k === c.cluster)),
  name: wrappedLabel(clusterName(c)),
  marker: { size: 5, color: regimeColour(c.cluster), opacity: 0.55, line: { width: 0 } },
  hovertemplate: "%{text}<br>" + plainly(clusterName(c)) + "<extra></extra>",
});

const episodeRings = (places) => ({
  ...pointsAt(places),
  name: "episode",
  opacity: 0.55,
  marker: { size: 8, color: "rgba(0,0,0,0)", line: { width: 1, color: colour("bad") } },
  hovertemplate: "%{text}<br>episode<extra></extra>",
});

/** The most recent way of one asset, ending at a large dot. */
const trailLines = (trail) => [
  {
    x: trail.x,
    y: trail.y,
    text: trail.time.map(minute),
    mode: "lines",
    name: "path",
    showlegend: false,
    line: { color: colour("ink"), width: 1 },
    opacity: 0.7,
    hovertemplate: plainly(trail.asset) + ", %{text}<extra></extra>",
  },
  {
    x: trail.x.slice(-1),
    y: trail.y.slice(-1),
    mode: "markers",
    showlegend: false,
    marker: { size: 11, color: colour("ink") },
    hovertemplate: plainly(trail.asset) + ", newest<extra></extra>",
  },
];

function axisTitle(place) {
  if (!D.map.dimensions) return place ? "second axis" : "first axis";
  return directionName(dimensions.get(D.map.dimensions[place]));
}

function drawMap() {
  const trail = D.map.trails[+$("asset").value];
  const firing = placesOf(D.map.points.episode, Boolean);
  const last = trail && trail.time[trail.time.length - 1];
  $("mapnote").textContent = trail
    ? "its last " + trail.x.length + " windows shown, " + minute(trail.time[0]) + " to " + minute(last)
    : "";
  const points = [
    ...D.clusters.map(regimePoints),
    ...(firing.length ? [episodeRings(firing)] : []),
    ...(trail ? trailLines(trail) : []),
  ];
  const look = {
    height: tall("map", narrow() ? 420 : 520),
    showlegend: true,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    margin: { l: 48, r: 14, t: 20, b: 46 },
    xaxis: axis({ title: { text: wrappedLabel(axisTitle(0)) }, automargin: true }),
    yaxis: axis({ title: { text: wrappedLabel(axisTitle(1)) }, automargin: true }),
  };
  Plotly.react("map", points, layout(look), CONFIG);
}

function trailChoice() {
  const option = (text, number) => {
    const choice = h("option", "", text);
    choice.value = String(number);
    return choice;
  };
  const text = (trail) => trail.asset + (trail.episodes ? " (" + plural(trail.episodes, "episode") + ")" : "");
  $("asset").append(...D.map.trails.map((trail, i) => option(text(trail), i)), option("no asset", -1));
  $("asset").addEventListener("change", drawMap);
}

function mapShare() {
  const M = D.map;
  const own =
    "Its axes are the model's own two leading directions, because the best plane of all (by principal components) would show hardly more: " +
    percent(M.pca_share);
  const mixed =
    "Its axes are principal components, mixtures of directions, because the model's own two leading directions would show only " +
    percent(M.own_share);
  const much = "This plane shows " + percent(M.share) + " of what differs between windows, measured by what the sensors do. ";
  return much + (M.dimensions ? own : mixed) + ".";
}

function map() {
  if (!D.map) return;
  $("mapbox").hidden = false;
  trailChoice();
  chart(drawMap);
  $("mapshare").textContent = mapShare();
  regimes();
  strips();
}

// ---------------------------------------------------------------- regimes
function regimeLead() {
  if (D.clusters.length < 2)
    return "The moments do not fall into separate groups: the machine moves within one range. (No split reached a silhouette of .25.)";
  return (
    "The moments fall into " +
    D.clusters.length +
    " groups that the model keeps apart; how many there are was decided by the readings (silhouette " +
    value(D.map.silhouette, 2) +
    ", where 1 is perfectly separate and under .25 none). Learned from moments without an episode. Values are typical of the group, in brackets the mean of all; rising and falling are within a window."
  );
}

function regimeSensor(s) {
  const moving = s.word === "rising" || s.word === "falling";
  const cell = moving
    ? h("td", "num", "by " + real(Math.abs(s.typical), s.sensor))
    : h("td", "num", real(s.typical, s.sensor), h("span", "dim", " (" + real(s.overall, s.sensor) + ")"));
  return h("tr", "", h("td", "", ...breakable(s.sensor)), h("td", "", s.word), cell);
}

function regimeCard(c) {
  const dot = h("span", "dot");
  dot.style.background = regimeColour(c.cluster);
  const title = [dot, h("span", "", clusterName(c)), h("span", "", percent(c.share) + " of the time")];
  const text = c.text.replace(/ %/g, "\u00a0%") + ".";
  const more = c.sensors.length - 6;
  return h(
    "article",
    "card regime",
    h("h3", "", ...title),
    h("p", "", text),
    c.sensors.length ? h("table", "", ...c.sensors.slice(0, 6).map(regimeSensor)) : null,
    more > 0 ? h("p", "small", "and " + more + " more sensors") : null,
    c.episode_share > 0 ? h("p", "small", "An episode was firing in " + percent(c.episode_share) + " of it.") : null,
  );
}

function regimes() {
  $("regimelead").textContent = regimeLead();
  $("regimes").append(...D.clusters.map(regimeCard));
}

/** The colours of the regimes as steps of a colour scale. */
function regimeScale() {
  const n = D.clusters.length;
  return D.clusters.flatMap((_, k) => [[k / n, regimeColour(k + 1)], [(k + 1) / n, regimeColour(k + 1)]]);
}

function stripCells(rows, time) {
  const text = (row) =>
    row.cluster.map((c, t) => plainly(row.asset) + ", " + minute(time[t]) + (c ? "<br>" + plainly(regimeName(c)) : ""));
  return {
    type: "heatmap",
    x: time,
    y: rows.map((_, i) => i),
    z: rows.map((row) => row.cluster),
    zmin: 0.5,
    zmax: D.clusters.length + 0.5,
    colorscale: regimeScale(),
    showscale: false,
    ygap: 9,
    text: rows.map(text),
    hovertemplate: "%{text}<extra></extra>",
  };
}

/** A red mark above a strip where an episode was open. */
function stripMarks(rows, time) {
  const marks = rows.flatMap((row, i) => placesOf(row.episode, Boolean).map((t) => [time[t], i + 0.46]));
  return {
    x: marks.map(([x]) => x),
    y: marks.map(([, y]) => y),
    mode: "markers",
    marker: { symbol: "line-ew", size: 5, line: { width: 4, color: colour("bad") } },
    hoverinfo: "skip",
  };
}

const stripName = (row, i) => ({
  xref: "paper", x: 0, y: i, text: plainly(row.asset), showarrow: false, xanchor: "left", yanchor: "middle",
  bgcolor: colour("card"), opacity: 0.85, font: { size: 11, color: colour("ink") }, borderpad: 1,
});

function strips() {
  const { strips: list, time } = D.map.regimes_over_time;
  if (list.length < D.map.assets.length)
    $("striplead").append(" Of " + count(D.map.assets.length) + " assets, the " + list.length + " with the most episodes.");
  const rows = [...list].reverse();
  chart(() => {
    const look = {
      height: tall("strips", 68 + 30 * rows.length),
      margin: { l: 14, r: 14, t: 12, b: 44 },
      annotations: rows.length > 1 ? rows.map(stripName) : [],
      xaxis: timeAxis({ showgrid: false }),
      yaxis: axis({ showticklabels: false, showgrid: false, fixedrange: true, range: [-0.6, rows.length - 0.3] }),
    };
    Plotly.react("strips", [stripCells(rows, time), stripMarks(rows, time)], layout(look), CONFIG);
  });
}

// ---------------------------------------------------------------- what was unusual, and when
/** A direction's number with as much of its name as fits: the whole name is above its chart and under the pointer. */
function rowLabel(dimension) {
  const name = dimensions.get(dimension).name;
  const text = dimension + (name ? " " + name : "");
  const most = narrow() ? 10 : 26;
  return text.length > most ? text.slice(0, most - 1) + "…" : text;
}

function unusualCells(shown) {
  const K = D.kl_over_time;
  const z = shown.map((_, i) => K.values[i].map((v) => (v === null ? null : Math.max(0, v - K.usual[i]))));
  const sorted = z.flat().filter((v) => v !== null).sort((a, b) => a - b);
  const text = (d, i) =>
    K.values[i].map((v, t) =>
      plainly(directionName(dimensions.get(d))) + ", " + minute(K.time[t]) + "<br>" + value(v) + " nats, usually " + value(K.usual[i]));
  const below = { orientation: "h", y: -0.12, yanchor: "top", thickness: 10, title: { text: "nats", side: "right" } };
  return {
    type: "heatmap",
    x: K.time,
    y: shown.map((_, i) => i),
    z,
    zmin: 0,
    zmax: Math.max(sorted[Math.floor(0.995 * (sorted.length - 1))] || 0, 1), // one absurd moment must not pale the others
    colorscale: [[0, "rgba(" + colour("heat") + ",0.04)"], [1, "rgba(" + colour("heat") + ",1)"]],
    colorbar: narrow() ? below : { thickness: 10, title: { text: "nats" } },
    ygap: 2,
    text: shown.map(text),
    hovertemplate: "%{text}<extra></extra>",
  };
}

/** A red mark on top where an episode was open. */
function unusualMarks() {
  const at = placesOf(D.kl_over_time.episode, Boolean).map((t) => D.kl_over_time.time[t]);
  return {
    x: at,
    y: at.map(() => -1),
    mode: "markers",
    marker: { symbol: "line-ns", size: 9, line: { width: 3, color: colour("bad") } },
    hoverinfo: "skip",
  };
}

function drawUnusual() {
  const shown = D.kl_over_time.dimensions.slice(0, 16);
  const rows = axis({
    tickvals: shown.map((_, i) => i),
    ticktext: shown.map((d) => plainly(rowLabel(d))),
    range: [shown.length - 0.5, -1.6],
    automargin: true,
    showgrid: false,
    fixedrange: true,
  });
  const look = {
    height: tall("kl", 110 + 22 * shown.length + (narrow() ? 40 : 0)),
    margin: { l: 20, r: 14, t: 10, b: narrow() ? 90 : 44 },
    xaxis: timeAxis({ showgrid: false }),
    yaxis: rows,
  };
  Plotly.react("kl", [unusualCells(shown), unusualMarks()], layout(look), CONFIG);
}

function unusual() {
  if (!D.kl_over_time) return;
  $("klbox").hidden = false;
  $("kllead").textContent =
    "One row per direction, oldest reading on the left. Strong colour means that the machine was further along this direction than it usually is (KL, in nats above its own median; the highest value in each " +
    lasting(D.kl_over_time.bin_seconds) +
    "). A red mark on top is an episode: if a row is strong below it, the direction took part; if no row is, the sensors disagreed with each other instead.";
  chart(drawUnusual);
}

// ---------------------------------------------------------------- what if
function whatIfLead(S) {
  const move = (m) => "direction " + m.dimension + (m.name ? " (" + m.name + ")" : "") + " by " + signedStep(m.sd) + " sd";
  const base = S.base.asset === null ? "" : " (" + S.base.what + ": " + S.base.asset + ", up to " + toMinute(S.base.time) + ")";
  return (
    "Had the machine moved " +
    S.moved.map(move).join(" and ") +
    ": the grey line is the window as the model sees it now, the coloured one what it would have been" +
    base +
    (S.sensors.some((s) => s.observed) ? "; the dashed one is what was measured." : ".") +
    (S.sensors.length && S.sensors[0].unit_sd < 0.05 ? " Hardly anything moves: the model makes no use of this direction." : "")
  );
}

const movedSensor = (s) => ({
  name: s.sensor,
  band: RANGES.get(s.sensor),
  note: signed(s.change, s.sensor) + " on average",
  curves: [
    { y: s.before, colour: "faint", width: 2, label: "as it is" },
    { y: s.after, colour: "up2", width: 2, label: "moved" },
    ...(s.observed ? [{ y: s.observed, colour: "ink", width: 1, dash: "dot", label: "measured" }] : []),
  ],
});

function addMoved(sensors) {
  const draws = sensors.map((s) => sensorCharts($("set").appendChild(h("article", "card direction")), [movedSensor(s)]));
  draws.forEach((draw) => draw());
}

function whatIf() {
  const S = D.set;
  if (!S) return;
  $("setbox").hidden = false;
  $("setlead").textContent = whatIfLead(S);
  addMoved(S.sensors.slice(0, 6));
  const rest = S.sensors.slice(6);
  if (rest.length) $("setbox").append(revealing("Show the other " + rest.length + " sensors", () => addMoved(rest)));
}

// ---------------------------------------------------------------- episodes
function episodes() {
  if (!D.episodes.length) return;
  $("episodebox").hidden = false;
  const lasted = (e) => lasting((Date.parse(e.closed) - Date.parse(e.opened)) / 1000 + D.period_seconds);
  const heads = ["Asset", "Opened", "Lasted", "Identity"];
  const row = (e) =>
    h(
      "tr",
      "",
      h("td", "name", ...breakable(e.asset)),
      labelled("", heads[1], stamp(e.opened)),
      labelled("", heads[2], e.closed ? lasted(e) : "still open"),
      labelled("", heads[3], e.id),
    );
  $("episodes").append(table("", heads, D.episodes.map(row)));
}

// ---------------------------------------------------------------- the sweep over beta
const sweepColumns = (S) => [
  ["beta", (p) => value(p.beta) + (S.other_seeds.includes(p) ? ", seed " + p.seed : "")],
  ["Active, of " + S.latents, (p) => count(p.active_units)],
  ["Telling something", (p) => count(p.telling_units)],
  ["Error, in sd", (p) => value(p.reconstruction)],
  ["KL, nats", (p) => value(p.kl)],
  ["ELBO per reading", (p) => value(p.elbo)],
  ["Purity", (p) => value(p.purity, 2)],
];

function sweepTable(S) {
  const columns = sweepColumns(S);
  const row = (p, i) => {
    const ours = i < S.points.length && p.beta === S.beta;
    return h("tr", ours ? "ours" : "", ...columns.map(([title, of]) => labelled("num", title, of(p))));
  };
  return table("", columns.map(([title]) => title), [...S.points, ...S.other_seeds].map(row));
}

/** As many decimals as tell the bounds apart. */
function boundDecimals(bounds) {
  const range = Math.max(...bounds) - Math.min(...bounds);
  return Math.min(6, Math.max(2, 1 - Math.floor(Math.log10(range || 1))));
}

function drawSweep() {
  const points = D.sweep.points;
  const x = points.map((p) => p.beta);
  const bounds = points.map((p) => p.elbo);
  const lines = [
    { y: points.map((p) => p.reconstruction), name: "error, in sd", line: { color: colour("up2") } },
    { y: points.map((p) => p.purity), name: "purity", line: { color: colour("info") } },
    { y: bounds, name: "ELBO per reading, right", yaxis: "y2", line: { color: colour("faint"), dash: "dot" } },
  ].map((line) => ({
    x,
    mode: "lines+markers",
    hovertemplate: line.name + " %{y:.3g} at beta %{x}<extra></extra>",
    ...line,
  }));
  const look = {
    height: tall("sweep", 320),
    showlegend: true,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    margin: { l: 48, r: 66, t: 40, b: 46 },
    xaxis: axis({ type: "log", tickvals: x, ticktext: x.map(String), title: { text: "beta" } }),
    yaxis: axis({ rangemode: "tozero" }),
    yaxis2: axis({ overlaying: "y", side: "right", showgrid: false, nticks: 5, tickformat: "." + boundDecimals(bounds) + "f" }),
  };
  Plotly.react("sweep", lines, layout(look), CONFIG);
}

function sweep() {
  const S = D.sweep;
  if (!S) return;
  $("sweepbox").hidden = false;
  $("sweeptable").append(sweepTable(S));
  chart(drawSweep);
  const measured =
    S.factors === "condition"
      ? " Purity is measured against the conditions in the readings, with models that were not told them."
      : " The readings name no conditions, so purity is measured against what each sensor shows.";
  $("sweepwhy").textContent = S.text + measured;
}

// ---------------------------------------------------------------- words
const WORDS = [
  ["Window", D.window + " consecutive rows of all sensors, " + lasting(LENGTH) + ": what the model looks at as one."],
  ["Direction", "One latent dimension of the model, numbered from 0; it moves several sensors at once. Name it with --name NUMBER=\"name\"."],
  ["sd", "Standard deviation: how far something usually strays. One sd is common, three are rare."],
  ["Share of the movement", "How much of all that the model shows would stand still if this direction did."],
  ["KL, nats", "How far a window is from what the model takes for normal, along one direction. 0 is nothing special."],
];
const MAP_WORDS = [
  ["Regime", "A state that the machine keeps returning to, found in the readings; the largest is number 1. Name it with --name cluster:NUMBER=\"name\"."],
];
const EPISODE_WORDS = [["Episode", "A stretch of time in which the alarm was on."]];
const SWEEP_WORDS = [
  ["ELBO", "How likely the held-out readings are to the model; higher is better. It counts error and KL in one unit."],
  ["Active, telling", "A dimension is active if it varies at all, and tells something if it carries more than .1 nats on average; training leaves the first .05 free."],
  ["Purity", "How much each thing that varies is told by one dimension alone (mutual information gap, Chen et al. 2018), from 0 to 1."],
];

function words() {
  const list = [
    ...WORDS,
    ...(D.map ? MAP_WORDS : []),
    ...(D.episode_count ? EPISODE_WORDS : []),
    ...(D.sweep ? SWEEP_WORDS : []),
  ];
  $("words").append(...list.flatMap(([word, meaning]) => [h("dt", "", word), h("dd", "", meaning)]));
}

// ---------------------------------------------------------------- the whole page
heading();
watch();
directions();
map();
unusual();
whatIf();
episodes();
sweep();
words();
dark.addEventListener("change", () => repaint.forEach((draw) => draw()));
ready();
