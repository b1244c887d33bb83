// What every chart of plotly.js is drawn with: layout, axes, colours, and names that stay names.
"use strict";

const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false };

/** plotly.js reads <b>, <i>, <a>, entities and %{...} in its texts: a name must stay a name. */
const plainly = (text) =>
  text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/%/g, "&#37;");

/** A layout in the page's colours; `more` adds to it. */
function layout(more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("dim") },
    margin: { l: 56, r: 14, t: 14, b: 40 },
    showlegend: false,
    hovermode: "closest",
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } },
    ...more,
  };
}

/** An axis in the page's colours. */
const axis = (more) => ({
  gridcolor: colour("line"),
  zeroline: false,
  linecolor: colour("line"),
  tickcolor: colour("line"),
  ...more,
});

const narrow = () => innerWidth < 760;

/** A time axis; its labels stay level. */
const timeAxis = (more) => axis({ type: "date", tickangle: 0, nticks: narrow() ? 4 : 10, ...more });

/** A dashed line across the chart. */
const edge = (place) => ({ type: "line", line: { color: colour("ink"), width: 1.3, dash: "dash" }, ...place });

// Of a name in a chart, in pixels; the width is that of capitals.
const [LINE_HEIGHT, LETTER_WIDTH] = [16, 7.6];

/** Breaks the names above panels into lines; `width` is the chart's, in pixels. See pages/panels.py. */
function fitNames(look, width) {
  const { gap, width: share } = look.meta;
  const letters = Math.max(12, Math.floor((share * (width - look.margin.l - look.margin.r)) / LETTER_WIDTH));
  const names = look.annotations.map((mark) => wrapped(mark.name, letters));
  look.annotations.forEach((mark, i) => (mark.text = names[i].map(plainly).join("<br>")));
  const needed = LINE_HEIGHT * Math.max(...names.map((lines) => lines.length)) + 4;
  look.height *= Math.max(1, needed / (gap * (look.height - look.margin.t - look.margin.b)));
  look.margin.t = Math.max(look.margin.t, needed);
}

/** Draws every figure that stands in the page as JSON; "var:name" is a colour of base.css. */
function drawFigures() {
  for (const script of document.querySelectorAll("script[data-figure]")) {
    const text = script.textContent.replace(/"var:([a-z-]+)"/g, (_, name) => JSON.stringify(colour(name)));
    const figure = JSON.parse(text);
    if (!figure) continue;
    const { font, hoverlabel } = layout();
    const look = {
      ...figure.layout,
      hoverlabel,
      font: { ...figure.layout.font, family: font.family },
      template: { layout: { xaxis: axis(), yaxis: axis() } },
    };
    if (look.meta) fitNames(look, $(script.dataset.figure).clientWidth);
    Plotly.react(script.dataset.figure, figure.data, look, CONFIG);
  }
}

/** A long name as lines of at most `most` letters: broken at spaces and separators, if it can be. */
function wrapped(text, most) {
  const lines = [""];
  const words = text.split(/(?<=[\s/._:-])(?=[^\s/._:-])/).flatMap((word) => chunks(word, most));
  for (const word of words) {
    const last = lines[lines.length - 1];
    if ((last + word).trimEnd().length <= most) lines[lines.length - 1] = last + word;
    else lines.push(word);
  }
  return lines.map((line) => line.trimEnd());
}

/** A word in pieces of at most `most` letters. */
function chunks(word, most) {
  const pieces = [];
  for (let at = 0; at < word.length; at += most) pieces.push(word.slice(at, at + most));
  return pieces;
}

/** A long name as a chart shows it: in lines, and free of markup. */
const wrappedLabel = (text, most = 34) => wrapped(text, most).map(plainly).join("<br>");
