// The page of `veriserum match`: shows the parts of the session's document, and sends what is done with mouse and keys.

import { Pane } from "./pane.js";
import { showSide } from "./side.js";
import { showTimeline } from "./timeline.js";

const OWN = "#39d98a";
const KEYS = {
  ArrowRight: "right", ArrowLeft: "left", ArrowUp: "up", ArrowDown: "down", PageUp: "away", PageDown: "nearer",
  q: "turn left", e: "turn right", w: "tilt up", s: "tilt down", a: "tilt left", d: "tilt right",
};
const MOST_MEASURES = 1000;
const ENDED = 4000; // codes from here on: the server has closed the page for good

const $ = (id) => document.getElementById(id);
const query = location.search;
const state = { about: null, frame: null, poses: null, trial: null, refining: null };
const hidden = new Set(); // names of layers
let [active, peeking, socket, number, waiting, pending, drawn] = ["bs", false, null, 0, new Map(), null, null];
let opening = false; // until all parts have arrived

// Talking to the server

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/socket${query}`);
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onclose = (event) => {
    waiting.clear();
    pending = null;
    document.body.classList.add("away");
    if (event.code >= ENDED) {
      say(event.reason, true);
      return;
    }
    say(
      state.about // it was here before
        ? `the server has gone away; ${kept()}. This page connects again when it is back at this address`
        : "no connection: use the address that `veriserum match` printed, with its token, while it is running",
      true,
    );
    setTimeout(connect, 1000);
  };
}

function kept() {
  return state.about?.output ? "every accepted pose is in its file" : "what was done here is lost, as nothing is saved";
}

function send(message) {
  if (socket?.readyState !== WebSocket.OPEN) return 0;
  number += 1;
  waiting.set(number, message.do);
  socket.send(JSON.stringify({ frame: state.frame?.measurement_id, ...message, number }));
  return number;
}

function receive(message) {
  if (message.part) {
    state[message.part] = message.document;
    show[message.part]();
  } else if ("done" in message) {
    const what = waiting.get(message.done);
    waiting.delete(message.done);
    if (message.error) say(message.error, true);
    else if (what && what !== "drag" && what !== "drop") say("");
    if (what === "drag") sendPending();
  } else if (message.said) {
    say(message.said, message.failed);
  }
}

function say(text, isError = false) {
  $("message").textContent = text;
  $("message").className = isError ? "error" : "";
}

// A drag sends where the pointer is now as soon as the last place has been drawn: nothing piles up.

function drag(message, at) {
  pending = { message, at };
  if (![...waiting.values()].includes("drag")) sendPending();
}

function sendPending() {
  if (!pending) return;
  drawn = pending.at;
  send({ do: "drag", ...pending.message });
  pending = null;
}

function drop(name) {
  sendPending();
  send({ do: "drop", name });
}

// What the panes show

function outlines(plane) {
  if (peeking || !state.frame || !state.poses) return [];
  const found = [];
  for (const layer of state.frame.layers) {
    if (hidden.has(layer.name)) continue;
    for (const contours of Object.values(layer.outlines[plane] ?? {})) {
      found.push({ contours, color: layer.color, dash: layer.dash, width: 1.2 });
    }
  }
  if (hidden.has("")) return found;
  for (const [component, own] of Object.entries(state.poses.own)) {
    const selected = component === state.poses.selected;
    found.push({ contours: own.outlines[plane] ?? [], color: OWN, dash: 0, width: selected ? 1.8 : 1 });
  }
  return found;
}

function center(plane) {
  return hidden.has("") || peeking ? null : state.poses?.own[state.poses.selected]?.center_px[plane];
}

const actions = {
  outlines,
  center,
  drag,
  drop,
  wheel: (message) => send({ do: "wheel", ...message }),
  activate(plane) {
    active = plane;
    if (document.activeElement?.tagName === "IFRAME") document.activeElement.blur(); // it would keep the keys
    for (const pane of Object.values(panes)) pane.element.classList.toggle("active", pane.plane === plane);
  },
};
const panes = { bs: new Pane("bs", actions), fs: new Pane("fs", actions) };
$("panes").append(panes.bs.element, panes.fs.element);
actions.activate("bs");

function drawLines() {
  for (const pane of Object.values(panes)) pane.drawLines();
}

let sideIsDue = false;

function showSideSoon() {
  if (sideIsDue) return; // once a frame of the screen, after the outlines
  sideIsDue = true;
  requestAnimationFrame(() => {
    sideIsDue = false;
    showSide(state, hidden, { send, drawLines });
  });
}

const show = {
  about() {
    document.title = `${state.about.dataset} - veriserum match`;
    document.body.classList.remove("away");
    opening = true;
    say("opening the frame ...");
    const guest = !state.about.output;
    $("open-scene").hidden = guest;
    $("predictions").hidden = !guest;
    for (const id of ["network", "network-key"]) $(id).hidden = !state.about.model;
    $("network").title = state.about.model ?? "";
    if (guest) $("accepting").textContent = "accept (in this page: nothing is saved)";
  },
  frame() {
    const { frame } = state;
    $("frame").textContent =
      `frame ${frame.frame_index} (${frame.number} of ${frame.count}), measurement ${frame.measurement_id}` +
      (frame.task ? `, ${frame.task}` : "");
    for (const [plane, pane] of Object.entries(panes)) {
      pane.show(frame.planes[plane], `/image/${frame.measurement_id}/${plane}.png${query}`, frame.problem);
    }
    if (frame.problem) say(frame.problem, true);
    showSideSoon();
    if (state.trial) showTimeline(state, send);
  },
  poses() {
    drawLines();
    if (drawn !== null) {
      if (performance.getEntriesByName("drag to outlines").length >= MOST_MEASURES) performance.clearMeasures();
      performance.measure("drag to outlines", { start: drawn, end: performance.now() });
      drawn = null;
    }
    showSideSoon();
  },
  trial() {
    const [{ output }, { accepted }] = [state.about, state.trial];
    $("saved").textContent = `${accepted} pose${accepted === 1 ? "" : "s"} ${output ? `in ${output}` : "accepted, not saved"}`;
    showTimeline(state, send);
  },
  refining() {
    if (opening && !state.frame.problem) say("");
    opening = false;
    showSideSoon();
  },
};

// Buttons and keys

const buttons = {
  previous: { do: "step", by: -1 },
  next: { do: "step", by: 1 },
  flagged: { do: "next flagged" },
  undo: { do: "undo" },
  redo: { do: "redo" },
  predict: { do: "predict" },
  "predict-trial": { do: "predict", trial: true },
  refine: { do: "refine" },
  "refine-both": { do: "refine", both: true },
  "refine-trial": { do: "refine", trial: true },
  stop: { do: "stop" },
  accept: { do: "accept" },
  "accept-both": { do: "accept", both: true },
};
for (const [id, message] of Object.entries(buttons)) $(id).addEventListener("click", () => send(message));
$("trial").addEventListener("change", () => send({ do: "trial", trial_id: Number($("trial").value) }));
$("numbers").addEventListener("change", () => {
  const value = (name) => Number($("numbers").querySelector(`[name=${name}]`).value.replace(",", "."));
  send({ do: "numbers", mm: ["x", "y", "z"].map(value), deg: ["rz", "rx", "ry"].map(value) });
});
for (const id of ["brightness", "contrast", "invert"]) $(id).addEventListener("input", showGrey);

function showGrey() {
  const [bright, contrast] = [$("brightness").value, $("contrast").value];
  const inverted = $("invert").checked ? "invert(1) " : "";
  for (const pane of Object.values(panes)) pane.filter(`${inverted}brightness(${bright}%) contrast(${contrast}%)`);
}

$("open-scene").addEventListener("click", () => {
  const there = $("scene");
  $("open-scene").setAttribute("aria-pressed", String(!there));
  if (there) {
    there.remove();
    return;
  }
  const pane = document.createElement("div");
  pane.className = "pane";
  pane.id = "scene";
  const frame = document.createElement("iframe");
  frame.title = "3-D scene";
  const inner = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/scene/socket${query}`;
  frame.src = `/scene${query || "?"}&websocket=${encodeURIComponent(inner)}`;
  pane.append(frame);
  $("panes").append(pane);
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=range]):not([type=checkbox]), select")) {
    if (event.key === "Enter" || event.key === "Escape") event.target.blur();
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") send({ do: event.shiftKey ? "redo" : "undo" });
    else if (key === "y") send({ do: "redo" });
    else return;
  } else if (key in KEYS) {
    send({ do: "nudge", plane: active, move: KEYS[key], step: event.shiftKey ? 0.1 : 1 });
  } else if (!press(key, event.shiftKey)) {
    return;
  }
  event.preventDefault();
});
document.addEventListener("keyup", (event) => {
  if (event.key.toLowerCase() === "h") peek(false);
});

function press(key, both) {
  if (key === "f" || key === "t") send({ do: "select", component: key === "f" ? "femur" : "tibia" });
  else if (key === "p" && state.about?.model) send({ do: "predict" });
  else if (key === "r") send({ do: "refine", both });
  else if (key === "Enter") send({ do: "accept", both });
  else if (key === "," || key === ".") send({ do: "step", by: key === "," ? -1 : 1 });
  else if (key === "g") send({ do: "next flagged" });
  else if (key === "h") peek(true);
  else if (key === "3" && !$("open-scene").hidden) $("open-scene").click();
  else if (key === "i") {
    $("invert").checked = !$("invert").checked;
    showGrey();
  } else if (key === "0") {
    panes[active].fit();
    panes[active].draw();
  } else return false;
  return true;
}

function peek(on) {
  peeking = on;
  drawLines();
}

// Resolves when everything that was asked for is done.
async function settled() {
  while (pending || waiting.size) await new Promise((resolve) => setTimeout(resolve, 5));
}

connect();
window.workbench = { state, panes, settled }; // for scripts, and the browser's console
