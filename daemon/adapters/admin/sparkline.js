// Sparklines: scores over time on a canvas, red where they are above the threshold.
"use strict";

const palette = {};

/** Reads the colours of the sparklines: a canvas does not follow a change between light and dark. */
function readPalette() {
  for (const name of ["spark", "spark-soft", "bad", "faint"]) palette[name] = colour(name);
}

/** Gives a canvas as many pixels as the screen has there, and returns its brush, cleared. */
function prepared(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const brush = canvas.getContext("2d");
  brush.setTransform(ratio, 0, 0, ratio, 0, 0);
  brush.clearRect(0, 0, width, height);
  return brush;
}

/** Splits points at the missing ones; each run is a list of [x, y]. */
function runsOf(points, x, y) {
  const runs = [];
  let run = null;
  points.forEach((v, i) => {
    if (v === null) run = null;
    else {
      if (!run) runs.push((run = []));
      run.push([x(i), y(v)]);
    }
  });
  return runs;
}

/** Draws the line through the runs; a single point becomes a dash of one pixel. */
function strokeRuns(brush, runs, style, width) {
  brush.beginPath();
  for (const run of runs) {
    brush.moveTo(run[0][0] - (run.length < 2), run[0][1]);
    for (const [x, y] of run) brush.lineTo(x, y);
  }
  brush.strokeStyle = style;
  brush.lineWidth = width;
  brush.stroke();
}

/** Fills the area below each run. */
function fillRuns(brush, runs, height) {
  brush.fillStyle = palette["spark-soft"];
  for (const run of runs) {
    brush.beginPath();
    brush.moveTo(run[0][0], height);
    for (const [x, y] of run) brush.lineTo(x, y);
    brush.lineTo(run[run.length - 1][0], height);
    brush.closePath();
    brush.fill();
  }
}

/** Draws the threshold, and in red what is above it. */
function strokeAbove(brush, runs, width, level) {
  brush.save();
  brush.beginPath();
  brush.rect(0, 0, width, level);
  brush.clip();
  strokeRuns(brush, runs, palette.bad, 1.8);
  brush.restore();
  brush.setLineDash([3, 3]);
  strokeRuns(brush, [[[0, level], [width, level]]], palette.faint, 1);
  brush.setLineDash([]);
}

/** Draws scores, the newest at the right edge; `top` is the value at the upper edge. */
function sparkline(canvas, points, threshold, top) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width) return;
  const brush = prepared(canvas, width, height);
  const total = Math.max(points.length, 60);
  const x = (i) => width - 2 - ((points.length - 1 - i) * (width - 4)) / (total - 1);
  const y = (v) => height - 2 - Math.min(Math.max(v, 0) / top, 1) * (height - 4);
  const runs = runsOf(points, x, y);
  brush.lineJoin = "round";
  fillRuns(brush, runs, height);
  strokeRuns(brush, runs, palette.spark, 1.4);
  if (threshold !== null) strokeAbove(brush, runs, width, y(threshold));
}
