// The page of a counterfactual: its chart, and a table of the changes.
"use strict";

const { changes } = JSON.parse($("data").textContent);
const row = ([sensor, change]) => h("tr", "", h("td", "name", ...breakable(sensor)), h("td", "num", change));

$("changes").append(table("", ["Sensor", "Change"], Object.entries(changes).map(row)));
drawFigures();
dark.addEventListener("change", drawFigures);
ready();
