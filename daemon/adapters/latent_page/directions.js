// What the model has learned to watch, and the directions in which the machine moves.
"use strict";

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
