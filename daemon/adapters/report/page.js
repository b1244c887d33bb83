// The report: draws what one run found from the JSON document in the page.
"use strict";

const D = JSON.parse($("data").textContent);

// ---------------------------------------------------------------- numbers
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
/** Instants in milliseconds, from base64 of little-endian float64. */
const times = (text) => Array.from(new Float64Array(bytes(text)));
/** Values from base64 of little-endian float32; null where there is none. */
const floats = (text) => Array.from(new Float32Array(bytes(text)), (v) => (Number.isFinite(v) ? v : null));

const HOVER_TIME = "%{x|%Y-%m-%d %H:%M:%S}<br>";

// ---------------------------------------------------------------- tiles
/** How many of the records read came to one end, in percent. */
function shareOfRead(n) {
  const read = D.records.read;
  return read ? String(+((100 * n) / read).toPrecision(n > read / 2 ? 4 : 2)) + " % of read" : "";
}

function recordTiles() {
  const r = D.records;
  const seconds = D.summary.seconds;
  const end = (name) => tile(name[0].toUpperCase() + name.slice(1), count(r[name] || 0), r[name] ? shareOfRead(r[name]) : "none");
  $("records").append(
    tile("Records read", count(r.read), seconds ? "in " + value(seconds) + " s" : ""),
    tile("Accepted", count(r.accepted), r.read === r.accepted ? "all of them" : shareOfRead(r.accepted || 0)),
    ...["duplicate", "late", "rejected"].map(end),
  );
}

function modelTile() {
  const models = D.summary.models || [];
  if (models.length < 2) return tile("Model", models[0] || "–", models.length ? "one version" : "none");
  return tile("Models", models[models.length - 1], models.length + " versions: " + models.join(", "));
}

function episodeTile() {
  if (!D.episodeCount) return tile("Episodes", "0", "nothing to report");
  const where = D.alarmedAssets ? "on " + D.alarmedAssets + " of " + plural(D.assets, "asset") : "of the whole stream";
  return tile("Episodes", count(D.episodeCount), where, "bad");
}

function findingTiles() {
  const s = D.summary;
  $("found").append(
    tile("Rows scored", count(s.scored), s.rows ? "of " + count(s.rows) + " rows" : ""),
    tile("Cells filled in", count(s.filled), s.filled ? "with a 90 % interval" : "none were missing"),
    episodeTile(),
    modelTile(),
  );
}

function notes() {
  $("notes").hidden = !D.notes.length;
  $("notes").append(...D.notes.map((note) => h("li", "", note)));
}

// ---------------------------------------------------------------- detection
function quality() {
  const names = Object.keys(D.quality);
  if (!names.length) return;
  $("qualitybox").hidden = false;
  const measures = [...new Set(names.flatMap((name) => Object.keys(D.quality[name])))];
  const heads = measures.map((m) => (m === "AP" ? "Average precision (AP)" : m));
  const figure = (v) => h("td", "num", missing(v) ? "–" : v.toFixed(3));
  const row = (name) =>
    h(
      "tr",
      name === D.ours ? "ours" : "",
      h("td", "name", ...breakable(name)),
      ...measures.map((m) => figure(D.quality[name][m])),
      h("td", "", meter(D.quality[name][measures[0]] || 0)),
    );
  $("quality").append(table("", ["Detector", ...heads, measures[0]], names.map(row)));
}

// ---------------------------------------------------------------- episodes
const HEADS = episodeHeads("Since", "Lasted", "Peak score");

/** Shows an episode in the chart, with as much again before and after it. */
function showEpisode(place, e) {
  const all = times(D.traces[place].t);
  const around = Math.max(e.to - e.from, (all[all.length - 1] - all[0]) / 60, 20000);
  drawAsset(place, [e.from - around, e.to + around]);
  $("chart").scrollIntoView({ block: "center" });
}

function reportedEpisode(e) {
  const row = episodeRow(HEADS, e, chip(e.severity, e.severity), stamp(e.onset), e.lasted + (e.closed ? "" : e.quiet ? ", quiet" : ", still open"), e.score);
  const place = D.traces.findIndex((t) => t.asset === e.asset && t.stream === e.stream);
  if (place < 0) return row; // its asset is not among those that are drawn
  row.className = "go";
  row.tabIndex = 0;
  row.addEventListener("click", () => showEpisode(place, e));
  row.addEventListener("keydown", (event) => {
    if (event.key === "Enter") showEpisode(place, e);
  });
  return row;
}

function episodes() {
  const shown = D.episodes.length;
  if (!shown) {
    $("episodes").append(h("div", "empty", "No episode was opened."));
    return;
  }
  const few = shown < D.episodeCount ? "the first " + shown + " of " + count(D.episodeCount) + "; " : "";
  $("episodecount").textContent = few + "choose one to see it in the chart";
  $("episodes").append(table("", HEADS, D.episodes.map(reportedEpisode)));
}

// ---------------------------------------------------------------- scores and sensors
const SCORE_HEIGHT = 230;
let shownAsset = 0;

/** The colours of what else than an anomaly was open; of base.css. */
const SHADES = { deviation: "warn", silent: "faint", other: "info" };

/** A stretch of time in which something was open, behind the lines. */
const openShape = (tint, [from, to]) => ({
  type: "rect",
  xref: "x",
  yref: "paper",
  x0: from,
  x1: Math.max(to, from + 1),
  y0: 0,
  y1: 1,
  fillcolor: colour(tint),
  opacity: tint === "faint" ? 0.26 : 0.14, // grey on white shows little
  line: { width: 0 },
  layer: "below",
});

/** A labelled stretch of time, above the chart of `inner` pixels. */
const labelShape = ([from, to], inner) => ({
  type: "rect",
  xref: "x",
  yref: "paper",
  x0: from,
  x1: Math.max(to, from + 1),
  y0: 1.002,
  y1: 1.002 + 9 / inner,
  fillcolor: colour("label"),
  line: { width: 1, color: colour("label") },
});

/** What was open in an asset's time, each kind in its own colour; anomalies on top. */
const openShapes = (trace) => [
  ...Object.entries(trace.shades).flatMap(([shade, spans]) => spans.map((span) => openShape(SHADES[shade], span))),
  ...trace.alarms.map((span) => openShape("bad", span)),
];

/** The lines of the score: score, score while firing, threshold. */
function scoreLines(trace) {
  const at = times(trace.t);
  return [
    {
      x: at,
      y: floats(trace.score),
      name: "score",
      mode: "lines",
      line: { color: colour("spark"), width: 1.3 },
      hovertemplate: HOVER_TIME + "score %{y:.3g}<extra></extra>",
    },
    {
      x: at,
      y: floats(trace.alarm),
      name: "firing",
      mode: "lines+markers",
      marker: { size: 2.5, color: colour("bad") },
      line: { color: colour("bad"), width: 1.8 },
      hovertemplate: HOVER_TIME + "score %{y:.3g}, firing<extra></extra>",
    },
    {
      x: times(trace.thresholdT),
      y: floats(trace.threshold),
      name: "threshold",
      mode: "lines",
      hoverinfo: "skip",
      line: { color: colour("ink"), width: 1.2, dash: "dash", shape: "hv" },
    },
  ];
}

/** The 90 % interval of the cells that were filled in. */
const intervalBand = (sensor, yaxis) => ({
  x: times(sensor.bandT),
  y: floats(sensor.band),
  yaxis,
  mode: "lines",
  fill: "toself",
  line: { width: 0 },
  fillcolor: colour("fill") + "44",
  hoverinfo: "skip",
  connectgaps: false,
});

function filledCells(sensor, yaxis) {
  const [low, high] = [floats(sensor.low), floats(sensor.high)];
  return {
    x: times(sensor.filledT),
    y: floats(sensor.filled),
    yaxis,
    mode: "markers",
    marker: { size: 3.2, color: colour("fill") },
    customdata: low.map((v, i) => [v, high[i]]),
    hovertemplate:
      HOVER_TIME +
      plainly(sensor.name) +
      " filled in: %{y:.4g}<br>90 % within %{customdata[0]:.4g} to %{customdata[1]:.4g}<extra></extra>",
  };
}

/** The lines of one sensor: the interval, the readings, the cells that were filled in. */
function sensorLines(sensor, yaxis) {
  const observed = {
    x: times(sensor.t),
    y: floats(sensor.y),
    yaxis,
    mode: "lines",
    line: { color: colour("spark"), width: 1.1 },
    hovertemplate: HOVER_TIME + plainly(sensor.name) + " %{y:.4g}<extra></extra>",
  };
  return [
    ...(sensor.bandT ? [intervalBand(sensor, yaxis)] : []),
    observed,
    ...(sensor.filledT ? [filledCells(sensor, yaxis)] : []),
  ];
}

/** Where the panels are: the score on top, then each sensor below its name, which may need several lines. */
function panelsOf(trace) {
  const letters = Math.max(20, Math.floor(($("chart").clientWidth - 82) / LETTER_WIDTH));
  const each = Math.max(64, Math.min(120, 900 / Math.max(trace.sensors.length, 1)));
  const names = trace.sensors.map((s) => wrapped(s.name, letters));
  const gaps = names.map((lines) => 10 + LINE_HEIGHT * lines.length);
  const inner = SCORE_HEIGHT + gaps.reduce((a, b) => a + b + each, 0);
  let below = SCORE_HEIGHT;
  const sensors = trace.sensors.map((sensor, i) => {
    const top = below + gaps[i];
    below = top + each;
    return { sensor, name: names[i], top: 1 - top / inner, bottom: Math.max(0, 1 - below / inner) };
  });
  return { inner, sensors };
}

/** A sensor's name above its panel. */
const nameMark = (panel) => ({
  xref: "paper",
  yref: "paper",
  x: 0,
  y: panel.top,
  xanchor: "left",
  yanchor: "bottom",
  align: "left",
  showarrow: false,
  text: panel.name.map(plainly).join("<br>"),
  font: { size: 12, color: colour("ink") },
});

function panelAxes({ inner, sensors }) {
  const axes = {
    yaxis: axis({
      domain: [1 - SCORE_HEIGHT / inner, 1],
      title: { text: "score", font: { color: colour("ink") } },
      rangemode: "tozero",
      fixedrange: true,
    }),
  };
  sensors.forEach((panel, i) => {
    axes["yaxis" + (i + 2)] = axis({ domain: [panel.bottom, panel.top], nticks: 4, fixedrange: true });
  });
  return axes;
}

function assetNote(trace) {
  const n = trace.sensors.length;
  return [
    D.traces.length < D.assets ? "the " + D.traces.length + " of most interest among " + D.assets + " assets" : "",
    n < trace.of ? n + " of " + trace.of + " sensors, the most blamed" : "",
  ]
    .filter(Boolean)
    .join("; ");
}

/** Draws the asset at a place of the list, counted round; `range` in milliseconds, or all of the run. */
function drawAsset(place, range) {
  if (!D.traces.length) {
    $("chart").replaceChildren(h("div", "empty", "No rows."));
    return;
  }
  shownAsset = (place + D.traces.length) % D.traces.length;
  const trace = D.traces[shownAsset];
  $("asset").value = String(shownAsset);
  $("assetname").replaceChildren(...breakable(trace.asset));
  $("assetnote").textContent = assetNote(trace);
  $("labelkey").hidden = !trace.labels.length;
  for (const key of document.querySelectorAll("[data-shade]")) key.hidden = !trace.shades[key.dataset.shade];
  const panels = panelsOf(trace);
  const at = times(trace.t);
  const all = at.length ? [at[0], at[at.length - 1]] : undefined;
  const last = trace.sensors.length ? "y" + (trace.sensors.length + 1) : "y";
  const look = {
    height: panels.inner + 80,
    margin: { l: 62, r: 20, t: 34, b: 46 },
    shapes: [...openShapes(trace), ...trace.labels.map((span) => labelShape(span, panels.inner))],
    annotations: panels.sensors.map(nameMark),
    xaxis: timeAxis({ range: range || all, anchor: last }),
    ...panelAxes(panels),
  };
  const lines = panels.sensors.flatMap((panel, i) => sensorLines(panel.sensor, "y" + (i + 2)));
  Plotly.react("chart", [...scoreLines(trace), ...lines], layout(look), CONFIG);
}

function assetChoice() {
  const found = (t) => D.episodes.filter((e) => e.asset === t.asset && e.stream === t.stream).length;
  D.traces.forEach((trace, place) => {
    const n = found(trace);
    const option = h("option", "", trace.asset + (n ? " (" + plural(n, "episode") + ")" : ""));
    option.value = String(place);
    $("asset").append(option);
  });
  $("asset").addEventListener("change", () => drawAsset(+$("asset").value));
  $("before").addEventListener("click", () => drawAsset(shownAsset - 1));
  $("after").addEventListener("click", () => drawAsset(shownAsset + 1));
}

// ---------------------------------------------------------------- drift
/** KL of each interval and its threshold, for the latent space or the residuals of one stream. */
function driftLines(stream, key, tint, many) {
  const name = key + (many ? " · " + plainly(stream.stream) : "");
  return [
    {
      x: stream.t,
      y: stream[key],
      name,
      mode: stream.t.length < 60 ? "lines+markers" : "lines",
      line: { color: colour(tint), width: 1.7 },
      text: stream.verdicts,
      hovertemplate: "%{x|%Y-%m-%d %H:%M}<br>" + name + " %{y:.3g} nats, %{text}<extra></extra>",
    },
    {
      x: stream.t,
      y: stream[key + "Edge"],
      name: key + " threshold",
      showlegend: !many,
      mode: "lines",
      hoverinfo: "skip",
      line: { color: colour(tint), width: 1, dash: "dash", shape: "hv" },
    },
  ];
}

const LEGEND_ABOVE = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" };

function drift() {
  if (!D.drift.length) {
    $("drift").replaceChildren(h("div", "empty", "No interval has ended."));
    return;
  }
  const many = D.drift.length > 1;
  const lines = D.drift.flatMap((stream) => [
    ...driftLines(stream, "latent", "info", many),
    ...driftLines(stream, "residual", "fill", many),
  ]);
  const look = layout({
    height: 320,
    margin: { l: 62, r: 20, t: 50, b: 46 },
    showlegend: true,
    legend: LEGEND_ABOVE,
    xaxis: timeAxis(),
    yaxis: axis({ rangemode: "tozero", title: { text: "nats" } }),
  });
  Plotly.react("drift", lines, look, CONFIG);
  const alone = D.drift.flatMap((stream) =>
    stream.assets.map((one) =>
      h(
        "p",
        "",
        one.asset +
          (many ? " · " + stream.stream : "") +
          `: beyond its own threshold in ${one.intervals} intervals, up to ${one.excess} times (` +
          one.sensors.join(", ") +
          ")",
      ),
    ),
  );
  $("drifting").replaceChildren(...alone);
}

// ---------------------------------------------------------------- histogram
function histogramBars(counts) {
  const tint = { rows: "spark", normal: "spark", anomalous: "label" };
  const x = floats(counts.x);
  return Object.entries(counts.groups).map(([name, y]) => ({
    type: "bar",
    x,
    y,
    width: x.map(() => counts.width),
    name,
    marker: { color: colour(tint[name]), opacity: name === "anomalous" ? 0.65 : 0.85, line: { width: 0 } },
    hovertemplate: "score about %{x:.3g}<br>%{y} " + name + "<extra></extra>",
  }));
}

function histogram() {
  if (!D.histogram) {
    $("histogram").replaceChildren(h("div", "empty", "No row was scored."));
    return;
  }
  const threshold = D.histogram.threshold;
  const bars = histogramBars(D.histogram);
  const known = threshold !== null;
  const mark = { x: threshold, xref: "x", y: 1, yref: "paper", yanchor: "bottom", showarrow: false };
  const look = layout({
    height: 320,
    margin: { l: 62, r: 20, t: 50, b: 46 },
    barmode: "overlay",
    bargap: 0,
    shapes: known ? [edge({ x0: threshold, x1: threshold, yref: "paper", y0: 0, y1: 1 })] : [],
    annotations: known ? [{ ...mark, text: "threshold " + value(threshold) }] : [],
    showlegend: bars.length > 1,
    legend: { ...LEGEND_ABOVE, y: 1.09 }, // above the threshold's name
    xaxis: axis({ title: { text: "score" } }),
    yaxis: axis({ type: "log", dtick: 1, title: { text: "rows" } }),
  });
  Plotly.react("histogram", bars, look, CONFIG);
}

// ---------------------------------------------------------------- rejected records
function reasons() {
  const list = Object.entries(D.reasons).sort((a, b) => b[1] - a[1]);
  $("reasonbox").hidden = !list.length;
  const row = ([reason, n]) => h("tr", "", h("td", "", reason.replace(/_/g, " ")), h("td", "num", count(n)));
  if (list.length) $("reasons").append(table("", ["Reason", "Records"], list.map(row)));
}

// ---------------------------------------------------------------- the whole page
function charts() {
  drawAsset(shownAsset);
  drift();
  histogram();
}

recordTiles();
findingTiles();
notes();
quality();
episodes();
reasons();
assetChoice();
charts();
dark.addEventListener("change", charts);
ready();
