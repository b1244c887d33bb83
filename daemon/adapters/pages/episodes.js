// Parts of a table of episodes, as the admin page and the report show them.
"use strict";

const KINDS = {
  anomaly: "anomaly",
  deviation: "deviation",
  sensor_silent: "sensor silent",
  sensor_stuck: "sensor stuck",
  asset_silent: "asset silent",
  clock_skew: "clock is off",
  drift: "drift",
  regime: "new regime",
  unknown_condition: "unknown condition",
};
const kindName = (kind) => KINDS[kind] || kind;

/** What was read, and what the model expected instead. */
function readings(contributor) {
  return h(
    "span",
    "num",
    contributor.observed === null ? "missing" : value(contributor.observed, 4),
    contributor.expected === null ? null : h("span", "dim", ", expected " + value(contributor.expected, 4)),
  );
}

/** One sensor to blame: its name, its readings, its share of the evidence. */
const cause = (c) =>
  h("div", "cause", h("span", "", ...breakable(c.sensor)), readings(c), h("span", "dim num share", percent(c.share)));

/** The sensors most to blame; in words what happened, where there are none. */
function blame(episode) {
  if (!episode.contributors.length) return h("span", "dim", ...breakable(episode.summary));
  return h("div", "blame", ...episode.contributors.map(cause));
}

/** A score, its threshold, and a bar that is full at two and a half times the threshold. */
function scoreCell(label, score, threshold) {
  if (score === null || !threshold) return labelled("n score", label, value(score));
  const over = score / threshold;
  return labelled(
    "n score",
    label,
    h("span", "", value(score)),
    h("span", "dim", " of " + value(threshold)),
    meter(0.4 * over, over > 1 ? "over" : ""),
  );
}

/** What happened: the kind of the episode, and the sensor that it is about. */
function kindCell(e) {
  return h("td", "kind", h("span", "", kindName(e.kind)), e.sensor ? h("div", "dim", ...breakable(e.sensor)) : null);
}

/** The row of one episode; `head` are the texts of the columns as in `episodeHeads`. */
function episodeRow(head, e, state, opened, lasted, score) {
  return h(
    "tr",
    "",
    h("td", "", state),
    h("td", "name", ...breakable(e.asset)),
    kindCell(e),
    titled(labelled("when", head[3], opened), "opened " + (e.opened || e.since) + ", model " + e.model),
    labelled("when", head[4], lasted),
    scoreCell(head[5], score, e.threshold),
    h("td", "blamed", blame(e)),
  );
}

const episodeHeads = (since, lasted, score) => [
  "",
  "Asset",
  "What",
  since,
  lasted,
  score,
  "Most to blame: observed, expected, share",
];
