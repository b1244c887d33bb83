// Elements, numbers and times: what every page's script builds on.
"use strict";

/** The element of an id. */
const $ = (id) => document.getElementById(id);

/**
 * A new element. Names come from whoever can write to the input, so children that are not
 * elements become text nodes: a name is never markup.
 */
function h(tag, cls, ...children) {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  for (const child of children)
    if (child !== null && child !== undefined)
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  return node;
}

/** The same element with a text for the pointer. */
function titled(node, text) {
  node.title = text;
  return node;
}

/** A name as text that may break behind each separator, but for the points and dashes of numbers. */
const breakable = (name) =>
  name.split(/(?<=[/_:])(?=[^/._:-])|(?<=[.-])(?=[^\d\s/._:-])/).flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part]));

/** A table of header texts and rows; `cls` names the kind of table. */
function table(cls, heads, rows) {
  return h(
    "table",
    cls,
    h("thead", "", h("tr", "", ...heads.map((text) => h("th", "", text)))),
    h("tbody", "", ...rows),
  );
}

/** A cell with its column's name inside, which is shown where the columns have no room. */
const labelled = (cls, label, ...children) => h("td", cls, h("span", "label", label), ...children);

/** One number with its name above and a remark below. */
function tile(what, big, small, cls) {
  return h("div", "card tile " + (cls || ""), h("div", "", what), h("b", "", big), h("small", "", small));
}

/** A state as a coloured word. */
const chip = (cls, text) => h("span", "chip " + cls, text);

/** A bar of `share` (0 to 1) of its length. */
function meter(share, cls) {
  const fill = h("i");
  fill.style.width = 100 * Math.min(1, Math.max(0, share)) + "%";
  return h("span", "meter " + (cls || ""), fill);
}

const missing = (v) => v === null || v === undefined;

/** A count with thousands separated. */
const count = (n) => (missing(n) ? "–" : n.toLocaleString("en-US"));

/** A measured number in so many significant digits, with a true minus sign. */
function value(v, digits = 3) {
  if (missing(v)) return "–";
  const size = Math.abs(v);
  if (size >= 1e6 || (size !== 0 && size < 1e-3)) return v.toExponential(1).replace(/-/g, "−");
  const text = size >= 1000 ? Math.round(v).toLocaleString("en-US") : String(+v.toPrecision(digits));
  return text.replace("-", "−");
}

/** "1 asset", "2 assets". */
const plural = (n, noun) => count(n) + " " + noun + (n === 1 ? "" : "s");

/** A share of 0 to 1 in percent. */
const percent = (share) =>
  missing(share) ? "" : share >= 0.01 || share === 0 ? Math.round(100 * share) + "\u00a0%" : "under 1\u00a0%";

/** A duration in the largest unit that fits, rounded. */
function duration(seconds) {
  if (missing(seconds)) return "";
  const s = Math.abs(seconds);
  if (s < 90) return Math.round(s) + " s";
  if (s < 5400) return Math.round(s / 60) + " min";
  if (s < 129600) return (s / 3600).toFixed(1) + " h";
  return s < 864000 ? (s / 86400).toFixed(1) + " days" : Math.round(s / 86400) + " days";
}

/** A duration in three digits: of what has an exact length. */
function lasting(seconds) {
  const s = Math.abs(seconds);
  if (s < 120) return value(s) + " s";
  if (s < 7200) return value(s / 60) + " min";
  return s < 172800 ? value(s / 3600) + " h" : value(s / 86400) + " days";
}

/** "2026-03-10 14:02:00" of an ISO time; the date is left out where it is `day`. */
function stamp(text, day) {
  if (!text) return "–";
  const [date, time] = [text.slice(0, 10), text.slice(11, 19)];
  return date === day ? time : date + " " + time;
}

const dark = matchMedia("(prefers-color-scheme: dark)");

/** A colour of base.css, as it is now. */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

/** Marks the page as complete: tests wait for the mark. */
const ready = () => (document.documentElement.dataset.ready = "1");
