// Where the machine has been: the map of its windows, the regimes, and when it was in which.
"use strict";

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
