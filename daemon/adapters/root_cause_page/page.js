// The page of an episode's cause: fills the markup from the JSON document, and draws the charts.
"use strict";

const D = JSON.parse($("data").textContent);

/** Puts a text where it belongs; an element without one is hidden. */
function fill(id, text) {
  $(id).hidden = !text;
  $(id).replaceChildren(...breakable(text || ""));
}

function verdict() {
  if (D.cause) $("verdict").classList.add("bad");
  $("cause").classList.add(D.certain ? "critical" : "warning");
  $("why").hidden = !D.cause;
  fill("asset", D.asset);
  fill("cause", D.cause);
  fill("headline", D.headline);
  fill("consequence", D.consequence);
  fill("evidence", D.evidence);
  fill("certainty", D.certainty);
  $("tiles").append(...D.tiles.map((t) => tile(t.what, t.big, t.small, t.bad ? "bad" : "")));
}

const READING_HEADS = ["Sensor", "It read", "It should read", "90 % interval", "Share of the blame"];

function readingRow(r) {
  return h(
    "tr",
    "",
    h("td", "name", ...breakable(r.sensor)),
    labelled("num", READING_HEADS[1], r.read),
    labelled("num", READING_HEADS[2], h("b", "", r.expected)),
    labelled("num", READING_HEADS[3], r.interval),
    labelled("num", READING_HEADS[4], r.share),
  );
}

function readings() {
  $("readingbox").hidden = !D.readings.length;
  $("readings").append(table("", READING_HEADS, D.readings.map(readingRow)));
}

/** One sensor's share of the evidence as a bar below its name. */
function blameBar(b) {
  const bar = meter(b.length, b.repaired ? "over" : "");
  return h("div", b.repaired ? "bar on" : "bar", h("span", "", ...breakable(b.sensor)), h("em", "num", b.share), bar);
}

const NEAREST_HEADS = ["When", "Asset", "Alike", "Most blamed", "What operators said"];

function nearestRow(n) {
  return h(
    "tr",
    "",
    h("td", "name num", n.when),
    labelled("", NEAREST_HEADS[1], ...breakable(n.asset)),
    labelled("num", NEAREST_HEADS[2], n.likeness),
    labelled("", NEAREST_HEADS[3], ...breakable(n.sensors)),
    labelled("", NEAREST_HEADS[4], n.feedback || h("span", "dim", "nobody has said")),
  );
}

function nearest() {
  $("nearest").append(
    D.nearest.length
      ? table("", NEAREST_HEADS, D.nearest.map(nearestRow))
      : h("div", "empty", "No earlier episode is known."),
  );
}

verdict();
readings();
$("blame").append(...D.blame.map(blameBar));
nearest();
fill("window", D.window);
fill("identity", D.identity);
$("notes").append(...D.notes.map((note) => h("p", "dim", "Note: ", ...breakable(note))));
$("pathbox").hidden = document.querySelector('[data-figure="rc-path"]').textContent === "null";
drawFigures();
dark.addEventListener("change", drawFigures);
ready();
