// The page of a model: draws what it has learned from the JSON document in the page.
"use strict";

const D = JSON.parse($("data").textContent);

// ---------------------------------------------------------------- numbers, names and colours
const DECIMALS = new Map(D.sensors.map((s) => [s.sensor, s.decimals]));
// a sensor's value with as many decimals as its spread deserves
const real = (v, sensor) => {
  if (v === null || v === undefined) return "–";
  const places = DECIMALS.get(sensor);
  if (places > 6) return value(v);
  const text = v.toLocaleString("en-US", { maximumFractionDigits: places }).replace("-", "−");
  return text === "−0" ? "0" : text;
};
const signed = (v, sensor) => (v > 0 ? "+" : "") + real(v, sensor);
const REGIMES = ["#3d6db3", "#e0912f", "#3c9d6b", "#9a63c7", "#8a6d5a", "#d877a8", "#6b7f8c", "#b0a52e"];
const regimeColour = (number) => REGIMES[(number - 1) % REGIMES.length];
// a chart's place has its height before the chart does, so that nothing around it is laid out over it
function tall(id, height) {
  $(id).style.height = height + 2 + "px"; // and its border
  return height;
}
// the window's time axis in the largest unit that gives whole numbers to read
const LENGTH = D.window * D.period_seconds;
const UNIT = LENGTH < 180 ? [1, "s"] : LENGTH < 10800 ? [60, "min"] : LENGTH < 259200 ? [3600, "h"] : [86400, "days"];
const X = D.seconds.map((s) => s / UNIT[0]);

const dimensions = new Map(D.dimensions.map((d) => [d.dimension, d]));
const active = D.dimensions.filter((d) => d.active);
const directionName = (d) => "Direction " + d.dimension + (d.name ? ": " + d.name : "");
const clusterName = (c) => "Regime " + c.cluster + (c.name ? ": " + c.name : "");
const clusters = new Map(D.clusters.map((c) => [c.cluster, c]));
const regimeName = (number) => clusterName(clusters.get(number));
// as many directions as do nine tenths of it all, but never so many that nobody reads them
const LEADING = (() => {
  let sum = 0,
    n = 0;
  while (n < active.length && (sum < 0.9 || n < 3) && n < 8) sum += active[n++].share;
  return n;
})();
const leadingShare = active.slice(0, LEADING).reduce((s, d) => s + d.share, 0);

function heading() {
  $("title").textContent = "What model " + D.version + " has learned";
  $("source").textContent = D.source
    ? "Shown on the readings of " + D.source
    : "From the model alone, without readings";
  $("tiles").append(
    tile("Sensors", count(D.sensors.length), "judged together"),
    tile("Window", lasting(LENGTH), D.window + " rows, " + lasting(D.period_seconds) + " apart"),
    tile(
      "Directions in use",
      count(active.length),
      "of " + D.latents + "; the first " + LEADING + " do " + percent(leadingShare),
    ),
  );
  if (D.map)
    $("tiles").append(
      tile("Regimes", count(D.clusters.length), D.clusters.length > 1 ? "states it keeps to" : "no separate states"),
      tile(
        "Windows seen",
        count(D.windows),
        "of " + count(D.map.assets.length) + (D.map.assets.length === 1 ? " asset" : " assets"),
      ),
      tile("Episodes", count(D.episode_count), D.episode_count ? "alerts of unusual behaviour" : "nothing to report"),
    );
  if (D.notes.length) {
    $("notes").hidden = false;
    $("notes").append(...D.notes.map((n) => h("li", "", n)));
  }
}

function watch() {
  const known = D.sensors.some((s) => s.explained !== null);
  const shown = active.slice(0, 12);
  const moved = new Map(shown.map((d) => [d.dimension, new Map(d.sensors.map((s) => [s.sensor, s]))]));
  const strengthOf = (m) => (m ? m.unit_sd : 0);
  const most = Math.max(1e-9, ...shown.flatMap((d) => d.sensors.map((s) => s.unit_sd)));
  $("watchlead").textContent =
    (known
      ? "The bar says how much of a sensor's ups and downs the model can retrace: near 100\u00a0% it knows the sensor well, near 0\u00a0% it takes it for noise. "
      : "") +
    "The squares show which directions move the sensor: the stronger the colour, the more. Column numbers are the directions below.";
  const box = $("watch");
  const labels = h("div", "cells head", ...shown.map((d) => titled(h("span", "", d.dimension), directionName(d))));
  box.append(h("div", "row head", h("span", "", "Sensor"), h("span", "", known ? "Retraced by the model" : ""), labels));
  const many = D.sensors.length > 20;
  D.sensors.forEach((s, place) => {
    const bar = h("span", "known");
    if (known) {
      const fill = h("i");
      fill.style.width = 100 * (s.explained || 0) + "%";
      bar.append(h("span", "", fill), h("span", "num", s.explained === null ? "stands still" : percent(s.explained)));
    }
    const cells = h("div", "cells");
    for (const d of shown) {
      const m = moved.get(d.dimension).get(s.sensor);
      const cell = h("span", strengthOf(m) > 0.6 * most ? "strong" : "", h("i", "", d.dimension));
      const strength = strengthOf(m) / most;
      cell.style.background = "rgba(var(--heat)," + (0.05 + 0.95 * strength).toFixed(3) + ")";
      cells.append(
        titled(
          cell,
          directionName(d) +
            (m ? " moves it by " + value(m.unit_sd, 2) + " of its usual spread" : " does not move it"),
        ),
      );
    }
    const [low, high] = [real(s.low, s.sensor), real(s.high, s.sensor)];
    const range =
      s.low === null
        ? "usually near " + real(s.mean, s.sensor)
        : low === high
          ? "stands at " + low
          : "usually " + low + " to " + high;
    const row = h("div", "row", h("span", "name", s.sensor, h("small", "", range)), bar, cells);
    row.hidden = many && place >= 16;
    box.append(row);
  });
  if (many) {
    const button = h("button", "link", "Show the other " + (D.sensors.length - 16) + " sensors");
    button.addEventListener("click", () => {
      button.remove();
      for (const row of box.children) row.hidden = false;
    });
    box.append(button);
  }
}

const STEP_COLOURS = ["down3", "down2", "down1", "ink", "up1", "up2", "up3"];
function small(node, curves, foot, band) {
  const data = curves.map((c) => ({
    x: X,
    y: c.y,
    mode: X.length < 2 ? "markers" : "lines",
    line: { color: colour(c.colour), width: c.width || 1.5, dash: c.dash || "solid" },
    hovertemplate: "%{y:.6g}<br>" + c.label + "<extra></extra>",
  }));
  Plotly.react(
    node,
    data,
    layout({
      shapes: band
        ? [{ type: "rect", xref: "paper", x0: 0, x1: 1, y0: band[0], y1: band[1], layer: "below", line: { width: 0 }, fillcolor: colour("line"), opacity: 0.55 }]
        : [],
      margin: { l: 56, r: 24, t: 6, b: foot ? 22 : 6 },
      xaxis: axis({ showticklabels: foot, ticksuffix: " " + UNIT[1], nticks: 5, fixedrange: true }),
      yaxis: axis({ nticks: 4, fixedrange: true }),
    }),
    CONFIG,
  );
}
const repaint = [];
function chart(node, draw) {
  draw();
  repaint.push(draw);
}

function sensorPlots(box, list) {
  // plots are drawn once they stand in the page: plotly measures them
  const todo = list.map((item, i) => {
    const foot = i === list.length - 1;
    const plot = h("div", "plot" + (foot ? " foot" : ""));
    box.append(h("h4", "", h("span", "", item.name), h("span", "num", item.note)), plot);
    return () => chart(plot, () => small(plot, item.curves, foot, item.band));
  });
  return () => todo.forEach((f) => f());
}

const RANGES = new Map(D.sensors.map((s) => [s.sensor, s.low === null ? null : [s.low, s.high]]));
const usual = (sensor) => RANGES.get(sensor);
const signedStep = (s) => (s > 0 ? "+" : s < 0 ? "−" : "") + Math.abs(s);
function directionCard(d) {
  const card = h(
    "article",
    "card direction",
    h("h3", "", h("span", "", directionName(d)), h("span", "", percent(d.share) + " of the movement")),
    h("p", "", d.text),
  );
  const names = d.sensors.filter((s) => s.sensor in d.traversal.sensors);
  const item = (s) => ({
    name: s.sensor,
    band: usual(s.sensor),
    note: s.lag ? (s.lag > 0 ? "follows by " : "comes before by ") + lasting(s.lag_seconds) : "",
    curves: d.traversal.sensors[s.sensor].map((y, i) => ({
      y,
      colour: STEP_COLOURS[i],
      width: d.traversal.steps[i] === 0 ? 2 : 1.3,
      label: d.traversal.steps[i] === 0 ? "usual" : signedStep(d.traversal.steps[i]) + " sd",
    })),
  });
  const first = names.filter((s, i) => i < 3 && s.unit_sd >= 0.1 * names[0].unit_sd);
  const box = h("div");
  card.append(box);
  const draws = [sensorPlots(box, first.map(item))];
  if (names.length > first.length) {
    const left = names.slice(first.length);
    const button = h("button", "link", "Show the other " + left.length + " sensors");
    button.addEventListener("click", () => {
      button.remove();
      const rest = h("div");
      card.append(rest);
      sensorPlots(rest, left.map(item))();
    });
    card.append(button);
  }
  return [card, () => draws.forEach((f) => f())];
}
function addCards(place, list) {
  const made = list.map(directionCard);
  place.append(...made.map(([card]) => card));
  made.forEach(([, draw]) => draw());
}
function directions() {
  $("directionlead").textContent =
    "A direction is something that sensors do together, found by the model itself. Each small chart is one window of " +
    lasting(LENGTH) +
    " as the model expects it, in the sensor's own units, starting from " +
    (D.reference.asset === null
      ? "the mean of training"
      : D.reference.what + " (" + D.reference.asset + ", " + D.reference.time.slice(0, 16).replace("T", " ") + ")") +
    (D.reference.condition ? " under the condition " + D.reference.condition : "") +
    ". The thick line is its usual course; the coloured ones show what it becomes as the direction goes up or down. The outermost are rare." +
    (D.source ? " The grey band is where the sensor usually is: what lies outside of it is the model's extrapolation." : "") +
    " Those that do most come first; the numbers are the model's own.";
  const names = ["3 sd down (rare)", "2", "1", "usual", "1", "2", "3 sd up (rare)"];
  $("steps").append(
    ...STEP_COLOURS.map((c, i) => {
      const line = h("i");
      line.style.background = "var(--" + c + ")";
      return h("span", "", line, names[i]);
    }),
  );
  addCards($("directions"), active.slice(0, LEADING));
  const rest = active.slice(LEADING);
  if (rest.length) {
    const button = $("more");
    button.hidden = false;
    let at = 0;
    const label = () => {
      button.textContent =
        "Show " +
        Math.min(12, rest.length - at) +
        (at || rest.length > 12 ? " of the other " + (rest.length - at) : "") +
        " directions, which do " +
        percent(rest.slice(at).reduce((s, d) => s + d.share, 0)) +
        " of the movement";
    };
    label();
    button.addEventListener("click", () => {
      addCards($("others"), rest.slice(at, at + 12));
      at += 12;
      if (at >= rest.length) button.hidden = true;
      else label();
    });
  }
}

/** "2026-03-10 14:02" of milliseconds since the epoch. */
const minute = (ms) => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

function map() {
  const M = D.map;
  if (!M) return;
  $("mapbox").hidden = false;
  const P = M.points;
  const title = (i) => {
    if (!M.dimensions) return i ? "second axis" : "first axis";
    return directionName(dimensions.get(M.dimensions[i]));
  };
  const base = D.clusters.map((c) => {
    const at = P.cluster.flatMap((k, i) => (k === c.cluster ? [i] : []));
    return {
      x: at.map((i) => P.x[i]),
      y: at.map((i) => P.y[i]),
      text: at.map((i) => plainly(M.assets[P.asset[i]]) + ", " + minute(P.time[i])),
      mode: "markers",
      name: wrappedLabel(clusterName(c)),
      marker: { size: 5, color: regimeColour(c.cluster), opacity: 0.55, line: { width: 0 } },
      hovertemplate: "%{text}<br>" + plainly(clusterName(c)) + "<extra></extra>",
    };
  });
  const fires = P.episode.flatMap((e, i) => (e ? [i] : []));
  const rings = {
    x: fires.map((i) => P.x[i]),
    y: fires.map((i) => P.y[i]),
    text: fires.map((i) => plainly(M.assets[P.asset[i]]) + ", " + minute(P.time[i])),
    mode: "markers",
    name: "episode",
    opacity: 0.55,
    marker: { size: 8, color: "rgba(0,0,0,0)", line: { width: 1, color: colour("bad") } },
    hovertemplate: "%{text}<br>episode<extra></extra>",
  };
  const choose = $("asset");
  M.trails.forEach((t, i) => {
    const option = h("option", "", t.asset + (t.episodes ? " (" + t.episodes + (t.episodes === 1 ? " episode)" : " episodes)") : ""));
    option.value = String(i);
    choose.append(option);
  });
  const none = h("option", "", "no asset");
  none.value = "-1";
  choose.append(none);
  const draw = () => {
    const t = M.trails[+choose.value];
    const path = t
      ? [
          {
            x: t.x,
            y: t.y,
            text: t.time.map(minute),
            mode: "lines",
            name: "path",
            showlegend: false,
            line: { color: colour("ink"), width: 1 },
            opacity: 0.7,
            hovertemplate: plainly(t.asset) + ", %{text}<extra></extra>",
          },
          {
            x: t.x.slice(-1),
            y: t.y.slice(-1),
            mode: "markers",
            showlegend: false,
            marker: { size: 11, color: colour("ink") },
            hovertemplate: plainly(t.asset) + ", newest<extra></extra>",
          },
        ]
      : [];
    $("mapnote").textContent = t
      ? "its last " + t.x.length + " windows shown, " + minute(t.time[0]) + " to " + minute(t.time[t.time.length - 1])
      : "";
    rings.marker.line.color = colour("bad");
    Plotly.react(
      "map",
      [...base, ...(fires.length ? [rings] : []), ...path],
      layout({
        height: tall("map", narrow() ? 420 : 520),
        showlegend: true,
        legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
        margin: { l: 48, r: 14, t: 20, b: 46 },
        xaxis: axis({ title: { text: wrappedLabel(title(0)) }, automargin: true }),
        yaxis: axis({ title: { text: wrappedLabel(title(1)) }, automargin: true }),
      }),
      CONFIG,
    );
  };
  choose.addEventListener("change", draw);
  chart($("map"), draw);
  $("mapshare").textContent =
    "This plane shows " +
    percent(M.share) +
    " of what differs between windows, measured by what the sensors do. " +
    (M.dimensions
      ? "Its axes are the model's own two leading directions, because the best plane of all (by principal components) would show hardly more: " +
        percent(M.pca_share) +
        "."
      : "Its axes are principal components, mixtures of directions, because the model's own two leading directions would show only " +
        percent(M.own_share) +
        ".");
  regimes();
  strips();
}

function regimes() {
  const many = D.clusters.length > 1;
  $("regimelead").textContent = many
    ? "The moments fall into " +
      D.clusters.length +
      " groups that the model keeps apart; how many there are was decided by the readings (silhouette " +
      value(D.map.silhouette, 2) +
      ", where 1 is perfectly separate and under .25 none). Learned from moments without an episode. Values are typical of the group, in brackets the mean of all; rising and falling are within a window."
    : "The moments do not fall into separate groups: the machine moves within one range. (No split reached a silhouette of .25.)";
  $("regimes").append(
    ...D.clusters.map((c) => {
      const dot = h("span", "dot");
      dot.style.background = regimeColour(c.cluster);
      const card = h(
        "article",
        "card regime",
        h("h3", "", dot, h("span", "", clusterName(c)), h("span", "", percent(c.share) + " of the time")),
        h("p", "", c.text.replace(/ %/g, "\u00a0%") + "."),
      );
      if (c.sensors.length) {
        card.append(
          h(
            "table",
            "",
            ...c.sensors
              .slice(0, 6)
              .map((s) =>
                h(
                  "tr",
                  "",
                  h("td", "", s.sensor),
                  h("td", "", s.word),
                  s.word === "rising" || s.word === "falling"
                    ? h("td", "num", "by " + real(Math.abs(s.typical), s.sensor))
                    : h("td", "num", real(s.typical, s.sensor), h("span", "dim", " (" + real(s.overall, s.sensor) + ")")),
                ),
              ),
          ),
        );
        if (c.sensors.length > 6) card.append(h("p", "small", "and " + (c.sensors.length - 6) + " more sensors"));
      }
      if (c.episode_share > 0)
        card.append(h("p", "small", "An episode was firing in " + percent(c.episode_share) + " of it."));
      return card;
    }),
  );
}

function strips() {
  const S = D.map.regimes_over_time;
  if (S.strips.length < D.map.assets.length)
    $("striplead").append(" Of " + count(D.map.assets.length) + " assets, the " + S.strips.length + " with the most episodes.");
  const n = D.clusters.length;
  const rows = [...S.strips].reverse();
  const scale = [];
  for (let k = 0; k < n; k++) scale.push([k / n, regimeColour(k + 1)], [(k + 1) / n, regimeColour(k + 1)]);
  const draw = () => {
    const marks = rows.flatMap((r, i) => r.episode.flatMap((e, t) => (e ? [[S.time[t], i]] : [])));
    Plotly.react(
      "strips",
      [
        {
          type: "heatmap",
          x: S.time,
          y: rows.map((r, i) => i),
          z: rows.map((r) => r.cluster),
          zmin: 0.5,
          zmax: n + 0.5,
          colorscale: scale,
          showscale: false,
          ygap: 9,
          text: rows.map((r) =>
            r.cluster.map((c, t) => plainly(r.asset) + ", " + minute(S.time[t]) + (c ? "<br>" + plainly(regimeName(c)) : "")),
          ),
          hovertemplate: "%{text}<extra></extra>",
        },
        {
          x: marks.map((m) => m[0]),
          y: marks.map((m) => m[1] + 0.46),
          mode: "markers",
          marker: { symbol: "line-ew", size: 5, line: { width: 4, color: colour("bad") } },
          hoverinfo: "skip",
        },
      ],
      layout({
        height: tall("strips", 68 + 30 * rows.length),
        margin: { l: 14, r: 14, t: 12, b: 44 },
        annotations: rows.length > 1 ? rows.map((r, i) => ({
          xref: "paper", x: 0, y: i, text: plainly(r.asset), showarrow: false, xanchor: "left", yanchor: "middle",
          bgcolor: colour("card"), opacity: 0.85, font: { size: 11, color: colour("ink") }, borderpad: 1,
        })) : [],
        xaxis: axis({ type: "date", nticks: narrow() ? 5 : 10, showgrid: false }),
        yaxis: axis({ showticklabels: false, showgrid: false, fixedrange: true, range: [-0.6, rows.length - 0.3] }),
      }),
      CONFIG,
    );
  };
  chart($("strips"), draw);
}

function unusual() {
  const K = D.kl_over_time;
  if (!K) return;
  $("klbox").hidden = false;
  $("kllead").textContent =
    "One row per direction, oldest reading on the left. Strong colour means that the machine was further along this direction than it usually is (KL, in nats above its own median; the highest value in each " +
    lasting(K.bin_seconds) +
    "). A red mark on top is an episode: if a row is strong below it, the direction took part; if no row is, the sensors disagreed with each other instead.";
  const shown = K.dimensions.slice(0, 16);
  const z = shown.map((d, i) => K.values[i].map((v) => (v === null ? null : Math.max(0, v - K.usual[i]))));
  const flat = z.flat().filter((v) => v !== null).sort((a, b) => a - b);
  // one absurd moment must not make all others look pale
  const top = Math.max(flat[Math.floor(0.995 * (flat.length - 1))] || 0, 1);
  const name = (d) => String(d) + (dimensions.get(d).name ? " " + dimensions.get(d).name : "");
  // the number says which one it is; the whole name is above its chart and under the pointer
  const label = (d) => {
    const most = narrow() ? 10 : 26;
    const text = name(d);
    return text.length > most ? text.slice(0, most - 1) + "…" : text;
  };
  const marks = K.episode.flatMap((e, t) => (e ? [K.time[t]] : []));
  const draw = () =>
    Plotly.react(
      "kl",
      [
        {
          type: "heatmap",
          x: K.time,
          y: shown.map((d, i) => i),
          z,
          zmin: 0,
          zmax: top,
          colorscale: [
            [0, "rgba(" + colour("heat") + ",0.04)"],
            [1, "rgba(" + colour("heat") + ",1)"],
          ],
          showscale: true,
          colorbar: narrow() ? { orientation: "h", y: -0.12, yanchor: "top", thickness: 10, title: { text: "nats", side: "right" } } : { thickness: 10, title: { text: "nats" } },
          ygap: 2,
          text: shown.map((d, i) =>
            K.values[i].map((v, t) => plainly(directionName(dimensions.get(d))) + ", " + minute(K.time[t]) + "<br>" + value(v) + " nats, usually " + value(K.usual[i])),
          ),
          hovertemplate: "%{text}<extra></extra>",
        },
        {
          x: marks,
          y: marks.map(() => -1),
          mode: "markers",
          marker: { symbol: "line-ns", size: 9, line: { width: 3, color: colour("bad") } },
          hoverinfo: "skip",
        },
      ],
      layout({
        height: tall("kl", 110 + 22 * shown.length + (narrow() ? 40 : 0)),
        margin: { l: 20, r: 14, t: 10, b: narrow() ? 90 : 44 },
        xaxis: axis({ type: "date", nticks: narrow() ? 5 : 10, showgrid: false }),
        yaxis: axis({
          tickvals: shown.map((d, i) => i),
          ticktext: shown.map((d) => plainly(label(d))),
          range: [shown.length - 0.5, -1.6],
          automargin: true,
          showgrid: false,
          fixedrange: true,
        }),
      }),
      CONFIG,
    );
  chart($("kl"), draw);
}

function whatIf() {
  const S = D.set;
  if (!S) return;
  $("setbox").hidden = false;
  const moves = S.moved.map((m) => "direction " + m.dimension + (m.name ? " (" + m.name + ")" : "") + " by " + signedStep(m.sd) + " sd");
  $("setlead").textContent =
    "Had the machine moved " +
    moves.join(" and ") +
    ": the grey line is the window as the model sees it now, the coloured one what it would have been" +
    (S.base.asset === null ? "" : " (" + S.base.what + ": " + S.base.asset + ", up to " + S.base.time.slice(0, 16).replace("T", " ") + ")") +
    (S.sensors.some((s) => s.observed) ? "; the dashed one is what was measured." : ".") +
    (S.sensors.length && S.sensors[0].unit_sd < 0.05 ? " Hardly anything moves: the model makes no use of this direction." : "");
  const item = (s) => ({
    name: s.sensor,
    band: usual(s.sensor),
    note: signed(s.change, s.sensor) + " on average",
    curves: [
      { y: s.before, colour: "faint", width: 2, label: "as it is" },
      { y: s.after, colour: "up2", width: 2, label: "moved" },
      ...(s.observed ? [{ y: s.observed, colour: "ink", width: 1, dash: "dot", label: "measured" }] : []),
    ],
  });
  const add = (list) => {
    const made = list.map((s) => {
      const box = h("article", "card direction");
      return [box, sensorPlots(box, [item(s)])];
    });
    $("set").append(...made.map(([box]) => box));
    made.forEach(([, draw]) => draw());
  };
  add(S.sensors.slice(0, 6));
  if (S.sensors.length > 6) {
    const button = $("setmore");
    button.hidden = false;
    button.textContent = "Show the other " + (S.sensors.length - 6) + " sensors";
    button.addEventListener("click", () => {
      button.hidden = true;
      add(S.sensors.slice(6));
    });
  }
}

function episodes() {
  if (!D.episodes.length) return;
  $("episodebox").hidden = false;
  const rows = D.episodes.map((e) =>
    h(
      "tr",
      "",
      h("td", "", e.asset),
      h("td", "", stamp(e.opened)),
      h("td", "", e.closed ? lasting((Date.parse(e.closed) - Date.parse(e.opened)) / 1000 + D.period_seconds) : "still open"),
      h("td", "", e.id),
    ),
  );
  $("episodes").append(
    h(
      "table",
      "",
      h("thead", "", h("tr", "", ...["Asset", "Opened", "Lasted", "Identity"].map((t) => h("th", "", t)))),
      h("tbody", "", ...rows),
    ),
  );
}

function swept() {
  const S = D.sweep;
  if (!S) return;
  $("sweepbox").hidden = false;
  const columns = [
    ["beta", (p) => value(p.beta) + (S.other_seeds.includes(p) ? ", seed " + p.seed : "")],
    ["Active, of " + S.latents, (p) => count(p.active_units)],
    ["Telling something", (p) => count(p.telling_units)],
    ["Error, in sd", (p) => value(p.reconstruction)],
    ["KL, nats", (p) => value(p.kl)],
    ["ELBO per reading", (p) => value(p.elbo)],
    ["Purity", (p) => value(p.purity, 2)],
  ];
  $("sweeptable").append(
    h(
      "table",
      "",
      h("thead", "", h("tr", "", ...columns.map(([t]) => h("th", "", t)))),
      h(
        "tbody",
        "",
        ...[...S.points, ...S.other_seeds].map((p, i) =>
          h("tr", i < S.points.length && p.beta === S.beta ? "ours" : "", ...columns.map(([, f]) => h("td", "num", f(p))))),
      ),
    ),
  );
  const x = S.points.map((p) => p.beta);
  const bounds = S.points.map((p) => p.elbo);
  const range = Math.max(...bounds) - Math.min(...bounds);
  const places = Math.min(6, Math.max(2, 1 - Math.floor(Math.log10(range || 1))));
  const draw = () =>
    Plotly.react(
      "sweep",
      [
        { x, y: S.points.map((p) => p.reconstruction), name: "error, in sd", line: { color: colour("up2") } },
        { x, y: S.points.map((p) => p.purity), name: "purity", line: { color: colour("info") } },
        { x, y: S.points.map((p) => p.elbo), name: "ELBO per reading, right", yaxis: "y2", line: { color: colour("faint"), dash: "dot" } },
      ].map((t) => Object.assign({ mode: "lines+markers", hovertemplate: t.name + " %{y:.3g} at beta %{x}<extra></extra>" }, t)),
      layout({
        height: tall("sweep", 320),
        showlegend: true,
        legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
        margin: { l: 48, r: 66, t: 40, b: 46 },
        xaxis: axis({ type: "log", tickvals: x, ticktext: x.map(String), title: { text: "beta" } }),
        yaxis: axis({ rangemode: "tozero" }),
        yaxis2: axis({ overlaying: "y", side: "right", showgrid: false, nticks: 5, tickformat: "." + places + "f" }),
      }),
      CONFIG,
    );
  chart($("sweep"), draw);
  $("sweepwhy").textContent =
    S.text +
    (S.factors === "condition"
      ? " Purity is measured against the conditions in the readings, with models that were not told them."
      : " The readings name no conditions, so purity is measured against what each sensor shows.");
}

function words() {
  const list = [
    ["Window", D.window + " consecutive rows of all sensors, " + lasting(LENGTH) + ": what the model looks at as one."],
    ["Direction", "One latent dimension of the model, numbered from 0; it moves several sensors at once. Name it with --name NUMBER=\"name\"."],
    ["sd", "Standard deviation: how far something usually strays. One sd is common, three are rare."],
    ["Share of the movement", "How much of all that the model shows would stand still if this direction did."],
    ["KL, nats", "How far a window is from what the model takes for normal, along one direction. 0 is nothing special."],
  ];
  if (D.map) list.push(["Regime", "A state that the machine keeps returning to, found in the readings; the largest is number 1. Name it with --name cluster:NUMBER=\"name\"."]);
  if (D.episode_count) list.push(["Episode", "A stretch of time in which the alarm was on."]);
  if (D.sweep)
    list.push(
      ["ELBO", "How likely the held-out readings are to the model; higher is better. It counts error and KL in one unit."],
      ["Active, telling", "A dimension is active if it varies at all, and tells something if it carries more than .1 nats on average; training leaves the first .05 free."],
      ["Purity", "How much each thing that varies is told by one dimension alone (mutual information gap, Chen et al. 2018), from 0 to 1."],
    );
  $("words").append(...list.flatMap(([t, d]) => [h("dt", "", t), h("dd", "", d)]));
}

heading();
watch();
directions();
map();
unusual();
whatIf();
episodes();
swept();
words();
dark.addEventListener("change", () => repaint.forEach((draw) => draw()));
document.documentElement.dataset.ready = "1";
