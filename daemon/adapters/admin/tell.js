// Telling the daemon something: one dialog for verdicts, planned stops and trainings, where the daemon allows it.
"use strict";

let control = null; // null: it is not allowed; else whether a token is needed
let pressedAt = -Infinity; // when a pointer went down that is down still
addEventListener("pointerdown", () => (pressedAt = performance.now()), true);
for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => setTimeout(() => (pressedAt = -Infinity)), true);

/** Whether something is being clicked: what is rebuilt meanwhile would lose its click. */
const pressed = () => performance.now() - pressedAt < 3000;

const NAME = "anomalyd.by";
const TOKEN = "anomalyd.token";

/** What the browser remembers under a key; it may be set to remember nothing. */
function remembered(storage, key) {
  try {
    return window[storage].getItem(key) || "";
  } catch {
    return "";
  }
}

function remember(storage, key, text) {
  try {
    window[storage].setItem(key, text);
  } catch {
    // it asks again the next time
  }
}

/** A button whose name, `key`, lets the focus find it again after its part of the page was rebuilt. */
function tellButton(text, label, key, open) {
  const button = h("button", "tell", text);
  button.type = "button";
  button.dataset.key = key;
  button.setAttribute("aria-label", label);
  button.setAttribute("aria-haspopup", "dialog");
  button.addEventListener("click", () => open(key));
  return button;
}

// ---------------------------------------------------------------- the dialog
let telling = null; // what the open dialog is about

/** Opens the dialog: its texts, the fields that it has, their first values, and the request that it makes. */
function ask(about) {
  telling = about;
  const form = $("tellform");
  form.reset();
  $("telltitle").textContent = about.title;
  $("tellabout").replaceChildren(...breakable(about.about || ""));
  for (const node of form.querySelectorAll("[data-field]")) node.hidden = !about.fields.includes(node.dataset.field);
  showToken(control.token && !remembered("sessionStorage", TOKEN));
  for (const [name, text] of Object.entries(about.values || {})) form.elements[name].value = text;
  form.elements.by.value = remembered("localStorage", NAME);
  $("tellnote").textContent = about.note;
  form.elements.note.parentNode.hidden = !about.note;
  $("tellerror").textContent = "";
  $("tellsend").disabled = false;
  allAssets();
  $("tell").showModal();
  const first = about.fields.includes("asset") ? "asset" : about.note ? "note" : "by";
  form.elements[first].focus();
}

function showToken(shown) {
  $("tellform").querySelector("[data-field=token]").hidden = !shown;
}

/** All assets have no name. */
function allAssets() {
  const { asset, everything } = $("tellform").elements;
  asset.disabled = everything.checked;
}

/** Sends a request; what the daemon answered, as {told} or {error}. */
async function tellDaemon(path, body) {
  const token = control.token ? remembered("sessionStorage", TOKEN) : "";
  const headers = { "content-type": "application/json", ...(token && { authorization: "Bearer " + token }) };
  const unknown = "No answer from the daemon. It may have been told all the same: look before you tell it again.";
  try {
    const signal = AbortSignal.timeout(15000);
    const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), cache: "no-store", signal });
    const answer = await response.json();
    return response.ok || answer.error ? answer : { error: unknown };
  } catch {
    return { error: unknown };
  }
}

/** Sends what the dialog says. By its answer it may have been cancelled, and another one be open, which goes on as it is. */
async function submitTold(event) {
  event.preventDefault();
  const about = telling;
  const form = $("tellform");
  const values = Object.fromEntries(new FormData(form));
  values.by = values.by.trim();
  // A header takes no other characters, and a token has none.
  if (values.token) remember("sessionStorage", TOKEN, values.token.replace(/[^!-~]/g, ""));
  remember("localStorage", NAME, values.by);
  $("tellerror").textContent = "";
  $("tellsend").disabled = true;
  const answer = await tellDaemon(about.path, about.body(values));
  const asked = telling === about && $("tell").open;
  if (asked) $("tellsend").disabled = false;
  if (answer.token) {
    remember("sessionStorage", TOKEN, "");
    showToken(true);
  }
  if (!answer.error) {
    if (asked) $("tell").close();
    acknowledge("Told. " + answer.told);
  } else if (asked) $("tellerror").textContent = answer.error;
  else acknowledge("Not told: " + answer.error);
}

let fading = 0;

/** Says what became of it, for a while; a screen reader reads it, of an open dialog only what is inside. */
function acknowledge(text) {
  placeAcknowledged();
  $("acknowledged").textContent = text;
  $("acknowledged").classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => $("acknowledged").classList.remove("shown"), 12000);
}

function placeAcknowledged() {
  const place = $("tell").open ? $("tell") : document.querySelector("main");
  if ($("acknowledged").parentNode !== place) place.append($("acknowledged"));
}

$("tellform").addEventListener("submit", submitTold);
$("tellform").elements.everything.addEventListener("change", allAssets);
$("tellcancel").addEventListener("click", () => $("tell").close());
$("tell").addEventListener("close", () => {
  placeAcknowledged();
  document.querySelector('[data-key="' + CSS.escape(telling.key) + '"]')?.focus({ preventScroll: true });
});

// ---------------------------------------------------------------- what can be told
/** The buttons of an alert: what it was. */
function verdictButtons(e) {
  if (!control) return [];
  const what = kindName(e.kind) + (e.sensor ? " of " + e.sensor : "") + " on " + e.asset;
  const group = h("div", "tells");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "What was it: " + what);
  for (const [verdict, text] of Object.entries(VERDICTS))
    group.append(
      tellButton(text, text + ": " + what, verdict + "/" + e.fingerprint, (key) =>
        ask({
          key,
          title: "What was it?",
          about: what + ", since " + stamp(e.onset) + " UTC",
          fields: ["verdict"],
          values: { verdict },
          note: "Note",
          path: "api/control/feedback",
          body: (v) => ({ fingerprint: e.fingerprint, verdict: v.verdict, note: v.note, by: v.by }),
        }),
      ),
    );
  return [group];
}

/** A stop of one asset of a stream, or of those that are typed: the daemon finds their names. */
function stopButton(text, asset, stream, key) {
  const label = asset ? "Maintenance of " + asset : "Plan a stop";
  return tellButton(text, label, key, () =>
    ask({
      key,
      title: "Maintenance from now on",
      about: asset ? asset + ": nothing opens on it meanwhile, and nothing of it is learned" : "",
      fields: asset ? ["lasts"] : ["asset", "lasts"],
      note: "Reason",
      path: "api/control/maintenance",
      body: (v) => ({
        assets: v.everything && !asset ? [] : [asset || v.asset].filter(Boolean),
        stream,
        everything: Boolean(v.everything && !asset),
        lasts: v.lasts,
        reason: v.note,
        by: v.by,
      }),
    }),
  );
}

/** A stop that was told can be ended here; one of the configuration cannot. */
function endButton(stop) {
  if (!control || stop.source !== "message") return null;
  const what = stop.state === "active" ? "End it now" : "Call it off";
  return tellButton(what, what + ": " + stop.name, "end/" + stop.name, (key) =>
    ask({
      key,
      title: what,
      about: stop.name,
      fields: [],
      note: "",
      path: "api/control/maintenance/end",
      body: (v) => ({ name: stop.name, by: v.by }),
    }),
  );
}

function retrainButton(streams, stream) {
  if (!control) return null;
  return tellButton("Retrain now", "Retrain the model of " + stream.name + " now", "retrain/" + stream.name, (key) =>
    ask({
      key,
      title: "Retrain now",
      about: "The model of " + stream.name + ". The new one must pass the gate like any other.",
      fields: [],
      note: "Reason",
      path: "api/control/retrain",
      body: (v) => ({ retrain: stream.name, reason: v.note, by: v.by }),
    }),
  );
}
