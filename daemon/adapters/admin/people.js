// What people told: verdicts on alerts, planned stops, and what became of trainings.
"use strict";

/** The stream's name behind a title, where there are several. */
const ofStream = (streams, name) => (streams.length > 1 ? h("span", "dim", " · " + name) : null);

/** A line with its state at the right, as the panels of the side have it. */
const line = (title, state) => h("div", "line", title, state);

const VERDICTS = { confirmed: "confirmed", false_alarm: "false alarm", planned: "planned" };

/** "by kim, 2026-03-10 14:02:00". */
const byWhom = (by, at, day) => [by && "by " + by, at && stamp(at, day)].filter(Boolean).join(", ");

/** What was said of an alert, by whom, when, why, and what that has done. */
function toldOf(e, day) {
  const told = e.told;
  // Without a verdict, what alerts.accept_after has accepted.
  if (!told) return e.accepted ? [h("div", "said", h("span", "dim", ...breakable(e.accepted.says)))] : [];
  const said = h(
    "div",
    "said",
    h("b", "", VERDICTS[told.verdict] || told.verdict),
    h("span", "dim", byWhom(told.by, told.at, day)),
    told.note ? h("span", "", "“", ...breakable(told.note), "”") : null,
    told.did ? h("span", "dim", ...breakable(told.did)) : null,
  );
  return [said];
}

/** Whose planned stop it is. */
function stopAssets(stop) {
  const names = stop.assets.join(", ");
  return (names || "all assets") + (stop.more_assets ? " and " + count(stop.more_assets) + " more" : "");
}

function stopRow(stop, day) {
  const active = stop.state === "active";
  const span = active ? "until " + stamp(stop.end, day) : stamp(stop.start, day) + " to " + stamp(stop.end, stop.start.slice(0, 10));
  const about = [stop.rrule && "recurs", stop.by && "by " + stop.by, stop.source === "config" && "by the configuration", stop.reason];
  return h(
    "div",
    "row",
    line(h("b", "", ...breakable(stop.name)), chip(active ? "warning" : "closed", stop.state)),
    h("p", "", ...breakable(stopAssets(stop)), stop.stream ? " of " + stop.stream : null),
    h("p", "num", span),
    about.some(Boolean) ? h("p", "", ...breakable(about.filter(Boolean).join(" · "))) : null,
    endButton(stop),
  );
}

function stopsPanel([stops, more, day]) {
  const rows = stops.map((stop) => stopRow(stop, day));
  if (!rows.length) rows.push(h("div", "empty", "None is planned."));
  if (more) rows.push(h("div", "row dim", "and " + count(more) + " more: see anomalyd maintenance list"));
  if (control) rows.push(h("div", "row", stopButton("Plan a stop …", "", "", "plan")));
  return rows;
}

/** What became of a training: the chip's class, and its text. */
function resultOf(decision) {
  if (decision.shadow) return ["", decision.shadow.over ? "was in shadow" : "in shadow"];
  const result = decision.promoted ? "promoted" : decision.version ? "refused" : "failed";
  return [result, result];
}

/** What a shadow is for, or where to look for what came of it. */
function shadowText(shadow, day) {
  if (shadow.over) return "It had passed the gate. What came of its time in shadow stands above.";
  return "It has passed the gate, and judges beside the model in use until " + stamp(shadow.until, day) + " UTC.";
}

function decisionRow(streams, stream, decision, day) {
  const result = resultOf(decision);
  const why = decision.promoted ? "" : decision.shadow ? shadowText(decision.shadow, day) : decision.reason;
  const due = decision.trained + (decision.trigger_reason ? ": " + decision.trigger_reason : "");
  return h(
    "div",
    "row",
    line(h("span", "", h("span", "mono", decision.version || "no candidate"), ofStream(streams, stream.name)), chip(...result)),
    decision.refused_by ? h("p", "", h("b", "", ...breakable(decision.refused_by.says))) : null,
    why ? h("p", "", ...breakable(why)) : null,
    h("p", "", stamp(decision.at, day) + " · trained ", ...breakable(due)),
  );
}

function decisionsPanel([streams, day]) {
  const rows = streams.flatMap((stream) => stream.decisions.map((each) => decisionRow(streams, stream, each, day)));
  return rows.length ? rows : h("div", "empty", "No training has ended yet.");
}
