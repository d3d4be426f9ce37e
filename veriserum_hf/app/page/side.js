// The side panel: implants, numbers, registration, acceptance, legend.

const $ = (id) => document.getElementById(id);
const COMPONENTS = ["femur", "tibia"];
const DASHES = ["", "10 6", "5 5", "2 4", "2 2"];
const UNITS = ["mm", "mm", "mm", "°", "°", "°"];

export function showSide(state, hidden, page) {
  if (!state.frame || !state.poses || !state.about) return;
  showImplants(state, page.send);
  showNumbers(state);
  showRefining(state);
  showHeld(state);
  showLayers(state, hidden, page.drawLines);
}

function line(...parts) {
  const label = document.createElement("label");
  label.append(...parts.filter(Boolean));
  return label;
}

function note(text, className = "note") {
  const found = document.createElement("span");
  found.className = className;
  found.textContent = text;
  return found;
}

function showImplants(state, send) {
  const { own, selected } = state.poses;
  $("implants").replaceChildren(
    ...COMPONENTS.filter((name) => own[name]).map((name) => {
      const radio = document.createElement("input");
      radio.type = "radio";
      radio.name = "component";
      radio.checked = name === selected;
      radio.addEventListener("change", () => send({ do: "select", component: name }));
      const status = own[name].problem || (own[name].accepted ? "accepted" : `from ${own[name].start}`);
      return line(radio, note(`${name} ${own[name].anatomy_id}`, "component"), note(status, own[name].accepted ? "note converged" : "note"));
    }),
  );
  const missing = COMPONENTS.filter((name) => !own[name] && state.about.anatomies[name].length);
  $("place").replaceChildren(
    ...missing.map((name) => {
      const select = document.createElement("select");
      select.append(new Option(`place a ${name} ...`, ""));
      for (const id of state.about.anatomies[name]) select.append(new Option(`${name} ${id}`, id));
      select.addEventListener("change", () => send({ do: "place", component: name, anatomy_id: Number(select.value) }));
      return select;
    }),
  );
}

function showNumbers(state) {
  const own = state.poses.own[state.poses.selected];
  const values = own ? [...own.translation_mm, ...own.rz_rx_ry_deg] : [];
  ["x", "y", "z", "rz", "rx", "ry"].forEach((name, number) => {
    const input = $("numbers").querySelector(`[name=${name}]`);
    input.disabled = !own;
    if (input !== document.activeElement) input.value = own ? values[number].toFixed(3) : "";
  });
  $("undo").disabled = !state.poses.undo;
  $("redo").disabled = !state.poses.redo;
}

function showRefining(state) {
  const busy = Boolean(state.refining?.what);
  for (const id of ["predict", "predict-trial", "refine", "refine-both", "refine-trial"]) $(id).disabled = busy;
  $("stop").hidden = !busy;
  $("progress").hidden = !busy;
  if (busy && state.refining.total > 1) {
    $("progress").max = state.refining.total;
    $("progress").value = state.refining.done;
  } else $("progress").removeAttribute("value");
  const stated = COMPONENTS.filter((name) => state.poses.own[name]).flatMap((name) => {
    const { registered, last } = state.poses.own[name];
    const found = registered ?? last;
    if (!found?.verdict) return [];
    const parts = [
      `${name}: `,
      note(found.verdict, found.verdict),
      found.score === undefined ? "" : `, score ${found.score.toFixed(2)}`,
      registered ? "" : found.verdict === "failed" ? "; the pose stays" : "; moved since",
    ];
    const deviations = registered?.sd?.map((sd, axis) => `${sd.toFixed(axis < 3 ? 3 : 2)}`);
    const block = document.createElement("div");
    block.append(...parts);
    if (deviations) {
      const [mm, deg] = [deviations.slice(0, 3), deviations.slice(3)];
      block.append(document.createElement("br"), `± ${mm.join(", ")} ${UNITS[0]}; ± ${deg.join(", ")} ${UNITS[3]} (SD of x, y, z)`);
    }
    if (found.detail) block.append(document.createElement("br"), found.detail);
    return [block];
  });
  $("verdict").replaceChildren(...(busy ? [`${state.refining.doing} ${state.refining.what} ...`] : stated));
}

function showHeld(state) {
  const held = COMPONENTS.filter((name) => state.poses.own[name]?.held).map((name) => {
    const { held, accepted } = state.poses.own[name];
    return `${name}: accepted ${held.at ?? ""} by ${held.by ?? "?"}${accepted ? "" : ", moved since"}`;
  });
  $("held").textContent = held.join("\n");
  $("held").style.whiteSpace = "pre-line";
}

function sample(color, dash, width) {
  const name = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(name, "svg");
  svg.setAttribute("width", 34);
  svg.setAttribute("height", 10);
  const path = document.createElementNS(name, "line");
  const attributes = { x1: 0, x2: 34, y1: 5, y2: 5, stroke: color, "stroke-width": width, "stroke-dasharray": DASHES[dash] ?? "" };
  for (const [key, value] of Object.entries(attributes)) path.setAttribute(key, value);
  svg.append(path);
  return svg;
}

function showLayers(state, hidden, drawLines) {
  const layers = [{ name: "", title: "matched here", color: "#39d98a", dash: 0, stated: {} }, ...state.frame.layers];
  const key = JSON.stringify([state.frame.measurement_id, layers.map((layer) => [layer.name, layer.stated, layer.problem])]);
  if ($("layers").dataset.key === key) return; // a box that is being clicked stays
  $("layers").dataset.key = key;
  $("layers").replaceChildren(
    ...layers.map((layer) => {
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = !hidden.has(layer.name);
      box.addEventListener("change", () => {
        if (box.checked) hidden.delete(layer.name);
        else hidden.add(layer.name);
        drawLines();
      });
      const verdicts = [...new Set(Object.values(layer.stated).map((stated) => stated.verdict).filter(Boolean))];
      const text = layer.problem || (layer.name && !Object.keys(layer.stated).length ? "no pose" : verdicts.join(", "));
      return line(box, sample(layer.color, layer.dash, layer.name ? 1.5 : 2.5), layer.title ?? layer.name, text ? note(text) : null);
    }),
  );
}
