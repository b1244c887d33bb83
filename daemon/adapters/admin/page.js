// The admin page: polls /api/status once a second and shows what has changed.
"use strict";

// ---------------------------------------------------------------- parts
const drawn = new Map(); // id -> what the part shows now

/** Rebuilds a part of the page, only when its data has changed. */
function part(id, data, build) {
  const key = JSON.stringify(data);
  if (pressed() || drawn.get(id) === key) return;
  drawn.set(id, key);
  const focused = $(id).contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  $(id).replaceChildren(...[build(data)].flat());
  if (focused) $(id).querySelector('[data-key="' + CSS.escape(focused) + '"]')?.focus({ preventScroll: true });
}

// ---------------------------------------------------------------- counters
let before = null; // rows scored, time and rate of the status before

/** A count that grows for ever: in millions from ten million on. */
const growing = (n) => (n >= 1e7 ? (n / 1e6).toFixed(1) + " M" : count(n));

const sumOver = (s, of) => s.streams.reduce((total, stream) => total + of(stream), 0);

/** Rows per second, smoothed over the last few statuses; null with the first. */
function scoringRate(s) {
  const scored = sumOver(s, (x) => x.scored);
  const at = performance.now();
  let rate = null;
  if (before) {
    rate = (Math.max(0, scored - before.scored) / (at - before.at)) * 1000;
    if (before.rate !== null) rate = 0.7 * before.rate + 0.3 * rate;
  }
  before = { scored, at, rate };
  return rate;
}

/** How many records, or cells, came to which end, over all streams. */
function countsOf(streams, what) {
  const counts = {};
  for (const stream of streams)
    for (const [name, n] of Object.entries(stream[what])) counts[name] = (counts[name] || 0) + n;
  return counts;
}

const total = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

function recordTile(streams) {
  const counts = countsOf(streams, "records");
  const all = total(counts);
  const odd = ["duplicate", "late", "rejected", "skipped"].filter((name) => counts[name]);
  const remark = odd.map((name) => growing(counts[name]) + " " + name).join(", ") || "all accepted";
  return tile("Records", growing(all), remark, counts.rejected > 0.05 * all ? "warn" : "");
}

function cellTile(streams) {
  const counts = countsOf(streams, "cells");
  const corrupt = streams.flatMap((stream) => stream.corrupt);
  const odd = ["missing", "corrupt", "unknown", "conflict"].filter((name) => counts[name]);
  const named = (name) => growing(counts[name]) + " " + name + (name === "corrupt" && corrupt.length ? " (" + corrupt[0].sensor + ")" : "");
  const remark = odd.map(named).join(", ") || "all observed";
  return tile("Values", growing(total(counts)), remark, counts.corrupt > 0.01 * total(counts) ? "warn" : "");
}

function tiles(s, rate) {
  const sum = (of) => sumOver(s, of);
  const [scored, filled] = [sum((x) => x.scored), sum((x) => x.filled)];
  const firing = sum((x) => x.tracks.filter((t) => t.kinds.length).length);
  const critical = s.critical ? s.critical + " critical" : count(s.opened) + " since the start";
  const assetsNow = firing ? firing + " with an open episode" : scored ? "all quiet" : "not scored yet";
  $("tiles").replaceChildren(
    tile("Open episodes", count(s.open), critical, s.critical ? "bad" : s.open ? "warn" : ""),
    tile("Assets", count(sum((x) => x.assets)), assetsNow),
    tile("Rows scored", growing(scored), rate === null ? "…" : count(Math.round(rate)) + " per second"),
    tile("Readings filled in", growing(filled), scored ? (filled / scored).toFixed(2) + " per row" : "none yet"),
    recordTile(s.streams),
    cellTile(s.streams),
    tile("Up", duration(s.uptime_seconds), s.source || "version " + s.version),
  );
}

// ---------------------------------------------------------------- episodes
const OPEN = {
  empty: "No open episodes.",
  heads: episodeHeads("Since", "For", "Score"),
  state: (e) => chip(e.severity, e.severity),
};
const CLOSED = {
  empty: "None has closed yet.",
  heads: episodeHeads("Since", "Lasted", "Peak score"),
  state: (e) => chip("closed", e.severity),
};

/** A table of open or closed episodes; dates are left out where they are `day`. */
function episodeTable({ empty, heads, state }, [list, day]) {
  if (!list.length) return h("div", "empty", empty);
  const row = (e) => {
    const node = episodeRow(heads, e, state(e), stamp(e.onset, day), e.lasted, e.score);
    node.lastChild.append(...toldOf(e, day), ...verdictButtons(e));
    return node;
  };
  return table("", heads, list.map(row));
}

function openNote(s) {
  if (s.open > s.episodes.length) return "the " + s.episodes.length + " most urgent of " + count(s.open);
  return s.open ? "times are event time, UTC" : "";
}

// ---------------------------------------------------------------- assets
const cards = new Map(); // stream and asset -> the card's elements

function newCard(stream, asset) {
  const card = {
    node: h("div", "card asset"),
    score: h("span", "score"),
    canvas: h("canvas"),
    state: h("span"),
    ratio: titled(h("span", "num"), "of the threshold"),
    stop: stopButton("Maintenance …", asset, stream, "stop/" + stream + "/" + asset),
  };
  card.canvas.setAttribute("role", "img");
  card.node.append(
    h("div", "top", h("span", "name", ...breakable(asset)), card.score),
    card.canvas,
    h("div", "foot", card.state, card.ratio),
    card.stop,
  );
  return card;
}

/** What an asset's card looks like: by its open episodes first, then by its score. */
function moodOf(track) {
  if (track.kinds.includes("anomaly") || track.critical) return "firing";
  if (track.kinds.length) return "alerted";
  if (track.score === null) return "none";
  return track.ratio > 1 ? "high" : track.ratio > 0.8 ? "near" : "";
}

const MOODS = { none: "no score", high: "above threshold", near: "near threshold" };

function fillCard(card, track, threshold) {
  const mood = moodOf(track);
  card.node.className = "card asset " + mood;
  card.score.textContent = value(track.score);
  card.stop.hidden = !control;
  card.state.textContent = track.kinds.map(kindName).join(", ") || (track.stop !== null ? "maintenance" : MOODS[mood]) || "normal";
  card.node.title = track.stop !== null ? "under maintenance: " + track.stop : "";
  card.ratio.textContent = percent(track.ratio);
  card.canvas.setAttribute("aria-label", "recent scores, the newest " + value(track.score));
  const peak = Math.max(0, ...track.spark.map((v) => v || 0));
  const top =
    threshold === null
      ? peak * 1.1 || 1
      : Math.min(Math.max(peak * 1.05, threshold * 1.4), threshold * 4);
  sparkline(card.canvas, track.spark, threshold, top);
}

/** One card per asset, in the order of the status; cards are kept, so that nothing flickers. */
function assetGrid(box, stream) {
  const present = new Set();
  stream.tracks.forEach((track, place) => {
    const key = JSON.stringify([stream.name, track.asset]);
    present.add(key);
    if (!cards.has(key)) cards.set(key, newCard(stream.name, track.asset));
    const card = cards.get(key);
    if (box.children[place] !== card.node) box.insertBefore(card.node, box.children[place] || null);
    fillCard(card, track, stream.threshold);
  });
  for (const [key, card] of cards)
    if (card.node.parentNode === box && !present.has(key)) {
      card.node.remove();
      cards.delete(key);
    }
}

function assetNote(stream) {
  const shown = stream.tracks.length;
  const few = shown && shown < stream.assets;
  return [
    few ? "the " + shown + " of most interest among " + count(stream.assets) : plural(stream.assets, "asset"),
    stream.threshold === null ? "" : "an episode opens above " + value(stream.threshold),
    stream.newest ? "newest row " + stamp(stream.newest) + " UTC" : "",
  ]
    .filter(Boolean)
    .join(", ");
}

function learningCard(stream) {
  const rows = Math.min(stream.rows, stream.learn_rows);
  const fill = h("i");
  fill.style.width = 100 * (stream.learn_rows ? rows / stream.learn_rows : 0) + "%";
  return h(
    "div",
    "card row",
    line(
      h("b", "", stream.training ? "Training the first model" : "Learning what normal looks like"),
      h("span", "dim num", count(rows) + " of " + count(stream.learn_rows) + " rows"),
    ),
    h("div", "progress", fill),
    h("p", "", "Readings are taken in and kept; scoring begins with the first model."),
  );
}

const sections = new Map(); // stream -> the elements of its section

function newSection() {
  const section = { node: h("section"), title: h("h2"), learn: h("div"), grid: h("div", "grid") };
  section.node.append(section.title, section.learn, section.grid);
  $("assets").append(section.node);
  return section;
}

function assets(s) {
  for (const stream of s.streams) {
    if (!sections.has(stream.name)) sections.set(stream.name, newSection());
    const section = sections.get(stream.name);
    section.title.replaceChildren(
      s.streams.length > 1 ? "Stream " + stream.name : "Assets",
      h("small", "", assetNote(stream)),
    );
    section.learn.replaceChildren(...(stream.state === "learning" ? [learningCard(stream)] : []));
    assetGrid(section.grid, stream);
  }
  const names = new Set(s.streams.map((stream) => stream.name));
  for (const [name, section] of sections)
    if (!names.has(name)) {
      section.node.remove();
      sections.delete(name);
    }
}

// ---------------------------------------------------------------- drift
function driftRow(streams, stream, key, title) {
  const { value: now, threshold, history } = stream.drift[key];
  const canvas = h("canvas");
  const top = Math.max(threshold * 1.5, ...history.map((v) => v || 0)) * 1.05;
  canvas.dataset.spark = JSON.stringify([history, threshold, top]);
  const verdict =
    stream.drift.verdict === "insufficient"
      ? chip("insufficient", "too little data")
      : now > threshold
        ? chip("drift", "above")
        : chip("ok", "steady");
  return h(
    "div",
    "row",
    line(h("b", "", title, ofStream(streams, stream.name)), verdict),
    h("p", "num", value(now) + " nats, threshold " + value(threshold)),
    canvas,
  );
}

/** The assets that drift alone; none, no row. */
function driftingRow(streams, stream) {
  const { judged, drifting, named } = stream.drift.assets;
  if (!drifting) return [];
  const more = drifting > named.length ? " ..." : "";
  const text = `${drifting} of ${judged}: ` + named.join(", ") + more;
  return [
    h("div", "row", line(h("b", "", "Assets", ofStream(streams, stream.name)), chip("drift", "above")), h("p", "", text)),
  ];
}

function driftPanel(streams) {
  const measured = streams.filter((stream) => stream.drift);
  if (!measured.length) return h("div", "empty", "No interval has ended yet.");
  return measured.flatMap((stream) => [
    driftRow(streams, stream, "latent", "Latent space"),
    driftRow(streams, stream, "residual", "Residuals"),
    ...driftingRow(streams, stream),
  ]);
}

// ---------------------------------------------------------------- fire drill
const FAULTS = {
  spike: "Spike",
  shift: "Offset",
  drift: "Drift",
  stuck: "Stuck",
  noise: "Noise",
  correlation_swap: "Swapped",
  lag: "Lag",
  drop_out: "Drop-out",
};

/** From which size on a fault is found; how often, where that differs; or that it is found. */
function found(kind, entry) {
  if (!entry.recall) return chip("warning", "not found");
  if (entry.above !== null) {
    return h("b", "num", "> " + (kind === "lag" ? duration(entry.above) : value(entry.above)));
  }
  if (entry.sized || entry.recall < 0.8) return h("span", "num", percent(entry.recall) + " found");
  return h("b", "", "found");
}

function drillCell(kind, entry) {
  if (!entry) return labelled("faint", FAULTS[kind], "–");
  const reliable = entry.above !== null || (!entry.sized && entry.recall >= 0.8);
  const soon = reliable && entry.within !== null;
  return titled(
    labelled(
      "",
      FAULTS[kind],
      found(kind, entry),
      soon ? h("div", "dim num", entry.within ? "in " + duration(entry.within) : "at once") : null,
    ),
    entry.says + " (" + count(entry.faults) + " faults)",
  );
}

function drillTable(streams, stream) {
  const kinds = Object.keys(FAULTS);
  const heads = [streams.length > 1 ? stream.name : "Sensor", ...kinds.map((kind) => FAULTS[kind])];
  const row = (entry) =>
    h("tr", "", h("td", "name", ...breakable(entry.sensor)), ...kinds.map((kind) => drillCell(kind, entry.kinds[kind])));
  return table("", heads, stream.drill.map(row));
}

function drillPanel(streams) {
  const drilled = streams.filter((stream) => stream.drill.length);
  if (drilled.length) return drilled.map((stream) => drillTable(streams, stream));
  return h("div", "empty", "Nothing yet: a fault is injected now and then, within its share of the CPU.");
}

// ---------------------------------------------------------------- imputation
const IMPUTABLE = {
  cannot: ["warning", "cannot be imputed"],
  last_value: ["closed", "no better than the last value"],
  good: ["ok", "good"],
  too_few: ["closed", "too few yet"],
};

const AUDIT_HEADS = ["Sensor", "Filling it in", "Typical error", "In 90 % interval"];

function auditRow(streams, stream, audit) {
  const [cls, text] = IMPUTABLE[audit.verdict] || ["closed", audit.verdict];
  const spread = audit.relative === null ? null : h("div", "dim", percent(audit.relative) + " of spread");
  return h(
    "tr",
    "",
    h("td", "name", ...breakable(audit.sensor), ofStream(streams, stream.name)),
    h("td", "verdict", chip(cls, text)),
    titled(
      labelled("n", AUDIT_HEADS[2], value(audit.error), spread),
      "the last value would be off by " + value(audit.last_value_error),
    ),
    titled(labelled("n", AUDIT_HEADS[3], percent(audit.coverage)), "of " + count(audit.audits) + " hidden readings"),
  );
}

function auditTable(streams) {
  const rows = streams.flatMap((stream) => stream.imputation.map((audit) => auditRow(streams, stream, audit)));
  if (!rows.length) return h("div", "empty", "No reading has been hidden yet.");
  return table("", AUDIT_HEADS, rows);
}

// ---------------------------------------------------------------- models
function modelInUse(streams, stream, day) {
  const about = [
    stream.calibration && stream.calibration + " calibration",
    stream.learned_until && "learned rows up to " + stamp(stream.learned_until, day) + " UTC",
  ];
  return h(
    "div",
    "row",
    line(h("span", "", h("b", "mono", stream.model), ofStream(streams, stream.name)), chip("ok", "in use")),
    h("p", "", about.filter(Boolean).join(", ")),
  );
}

function trainingNow(streams, stream) {
  const now = stream.training;
  const done = Math.round(100 * now.share) + " %" + (now.doing ? ", " + now.doing : "");
  return h(
    "div",
    "row",
    line(h("span", "", "Training", ofStream(streams, stream.name)), chip("", done)),
    h("p", "", now.trigger + (now.reason ? ": " + now.reason : "")),
  );
}

function inShadow(streams, stream, day) {
  const now = stream.shadow;
  const counts = [
    now.episodes + " episodes in " + now.windows + " windows",
    now.both + " of them with the model in use",
    "which had " + (now.incumbent_episodes - now.both) + " more",
  ];
  return h(
    "div",
    "row",
    line(h("span", "", h("b", "mono", now.version), ofStream(streams, stream.name)), chip("", "in shadow")),
    h("p", "", "until " + stamp(now.until, day) + " UTC · " + counts.join(", ")),
  );
}

function modelChange(change, day) {
  return h(
    "div",
    "row",
    line(h("span", "mono", change.version), chip(change.result, change.result.replace("_", " "))),
    h("p", "", stamp(change.at, day) + (change.reason ? " · " + change.reason : "")),
  );
}

function modelPanel([streams, day]) {
  const rows = streams.flatMap((stream) => [
    ...(stream.model ? [modelInUse(streams, stream, day)] : []),
    ...(stream.training ? [trainingNow(streams, stream)] : []),
    ...(stream.shadow ? [inShadow(streams, stream, day)] : []),
    ...(stream.model && control ? [h("div", "row", retrainButton(streams, stream))] : []),
    ...stream.models.slice(0, 12).map((change) => modelChange(change, day)),
  ]);
  return rows.length ? rows : h("div", "empty", "No model yet.");
}

// ---------------------------------------------------------------- the whole page
let current = null; // the status that is shown, and its rate

function heading(s) {
  document.title = (s.open ? "(" + s.open + ") " : "") + "anomalyd · " + s.lifecycle;
  $("state").className = "chip " + s.lifecycle;
  $("state").textContent = s.lifecycle;
  $("headline").textContent = s.headline.split(", ").slice(1).join("  ·  ");
}

/** Of each stream only these fields: what a part depends on. */
const only = (streams, ...names) =>
  streams.map((stream) => Object.fromEntries(["name", ...names].map((name) => [name, stream[name]])));

function troubleOf(s) {
  if (s.waiting_for) return "Waiting for " + s.waiting_for + ": it does not answer.";
  return s.ready || s.lifecycle === "starting" ? "" : "Not ready: " + s.because.join("; ") + ".";
}

function notice(text, stale) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
  document.body.classList.toggle("stale", stale);
}

function show(s, rate) {
  current = [s, rate];
  if (Boolean(control) !== Boolean(s.control)) drawn.clear();
  control = s.control;
  $("readonly").hidden = Boolean(control);
  const day = s.now.slice(0, 10);
  const newest = s.streams.map((stream) => stream.newest || "").sort().pop() || "";
  const eventDay = newest.slice(0, 10);
  heading(s);
  tiles(s, rate);
  part("open", [s.episodes, eventDay], (data) => episodeTable(OPEN, data));
  part("recent", [s.recent.slice(0, 30), eventDay], (data) => episodeTable(CLOSED, data));
  $("opencount").textContent = openNote(s);
  assets(s);
  part("drift", only(s.streams, "drift"), driftPanel);
  part("drill", only(s.streams, "drill"), drillPanel);
  part("audits", only(s.streams, "imputation"), auditTable);
  part("stops", [s.stops, s.more_stops, day], stopsPanel);
  part("decisions", [only(s.streams, "decisions"), day], decisionsPanel);
  part("models", [only(s.streams, "model", "calibration", "learned_until", "models", "training", "shadow"), day], modelPanel);
  for (const canvas of document.querySelectorAll("canvas[data-spark]"))
    sparkline(canvas, ...JSON.parse(canvas.dataset.spark));
  notice(troubleOf(s), false);
}

/** Draws the status again, where the window or its colours have changed. */
function redraw() {
  readPalette();
  if (current) show(...current);
}

let answered = null; // when the daemon answered last

function noAnswer() {
  const since = answered ? " since " + answered.toISOString().slice(11, 19) + " UTC" : "";
  notice("No answer from the daemon" + since + "; trying again.", true);
}

/** The status of now; null where the daemon does not answer. */
async function fetchStatus() {
  try {
    const response = await fetch("api/status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    return response.ok ? await response.json() : null;
  } catch {
    return null; // no connection, no answer in time, or half an answer
  }
}

/** Updates once a second, for ever: a connection that breaks is shown, and so is its return. */
async function poll() {
  const s = await fetchStatus();
  try {
    if (s) {
      answered = new Date();
      show(s, scoringRate(s));
      $("link").textContent = "updated " + s.now.slice(11, 19) + " UTC";
      ready();
    } else noAnswer();
  } finally {
    setTimeout(poll, 1000);
  }
}

readPalette();
dark.addEventListener("change", redraw);
addEventListener("resize", redraw);
poll();
