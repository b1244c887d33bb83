// The page of a model: its heading, the parts that need readings or a sweep, and the order of it all.
"use strict";

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
