// Draws the six coordinates of the knee in a trial when it is opened, from the numbers on this page.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("motions").textContent);
  const WIDTH = 370, HEIGHT = 220, LEFT = 44, RIGHT = 8, TOP = 36, BOTTOM = 30;
  const BAND = 1.96; // standard deviations
  const lines = [{ name: data.label, color: "#000" }, ...data.sources];

  function element(name, attributes, parent, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return parent.appendChild(made);
  }

  const shown = (value) => (value === null ? "-" : value.toFixed(2));

  function ticks(low, high, count) {
    const rough = (high - low) / count, decade = 10 ** Math.floor(Math.log10(rough));
    const step = decade * [1, 2, 5, 10].find((each) => each * decade >= rough);
    const found = [];
    for (let n = Math.ceil(low / step); n * step <= high; n++) found.push(Number((n * step).toPrecision(12)));
    return found;
  }

  // Runs of consecutive frames in which all of these values are known.
  function runs(frames, known, step) {
    const found = [];
    let last = null;
    for (let k = 0; k < frames.length; k++) {
      if (!known(k)) continue;
      if (last !== null && frames[k] - frames[last] <= 1.5 * step && found.at(-1).at(-1) === last) found.at(-1).push(k);
      else found.push([k]);
      last = k;
    }
    return found;
  }

  // One of the six coordinates; returns what shows the values of a frame.
  function panel(trial, coordinate, range, parent, hidden, step) {
    const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, parent);
    element("title", {}, svg, `${data.names[coordinate]}, trial ${trial.id}`);
    element("text", { x: LEFT, y: 13, class: "name" }, svg, data.names[coordinate]);
    const [from, to] = range;
    const inside = (k) => trial.frame[k] >= from && trial.frame[k] <= to;
    const series = [{ value: trial.label[coordinate], open: [] }];
    for (const each of trial.sources)
      series.push({ value: each.value[coordinate], sd: each.sd[coordinate], open: each.open });
    let low = Infinity, high = -Infinity;
    series.forEach(({ value, sd, open }, n) => {
      if (hidden.has(n)) return;
      const unsure = new Set(open);
      value.forEach((v, k) => {
        if (v === null || !inside(k)) return;
        const half = sd && !unsure.has(k) ? BAND * sd[k] : 0;
        low = Math.min(low, v - half);
        high = Math.max(high, v + half);
      });
    });
    if (low > high) [low, high] = [0, 1];
    const margin = Math.max(0.08 * (high - low), 0.25);
    [low, high] = [low - margin, high + margin];
    const x = (frame) => LEFT + ((WIDTH - LEFT - RIGHT) * (frame - from)) / Math.max(to - from, 1);
    const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * (value - low)) / (high - low);
    for (const tick of ticks(low, high, 5)) {
      element("path", { d: `M${LEFT} ${y(tick)}H${WIDTH - RIGHT}`, class: "grid" }, svg);
      element("text", { x: LEFT - 5, y: y(tick) + 4, "text-anchor": "end" }, svg, tick);
    }
    for (const tick of ticks(from, Math.max(to, from + 1), 6).filter(Number.isInteger))
      element("text", { x: x(tick), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, svg, tick);
    element("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 2, "text-anchor": "middle" }, svg, "frame");
    const area = element("svg", { x: LEFT, y: TOP, width: WIDTH - LEFT - RIGHT, height: HEIGHT - TOP - BOTTOM }, svg);
    area.setAttribute("viewBox", `${LEFT} ${TOP} ${WIDTH - LEFT - RIGHT} ${HEIGHT - TOP - BOTTOM}`);
    element("rect", { x: LEFT, y: TOP, width: WIDTH, height: HEIGHT, class: "area" }, area);
    const point = (k, value) => `${x(trial.frame[k]).toFixed(1)} ${y(value).toFixed(1)}`;
    series.forEach(({ value, sd, open }, n) => {
      if (hidden.has(n)) return;
      const color = lines[n].color, unsure = new Set(open);
      const good = (k) => value[k] !== null && inside(k) && !unsure.has(k);
      if (sd)
        for (const run of runs(trial.frame, (k) => good(k) && sd[k] !== null, step)) {
          const upper = run.map((k) => point(k, value[k] + BAND * sd[k]));
          const lower = run.map((k) => point(k, value[k] - BAND * sd[k])).reverse();
          element("path", { d: `M${[...upper, ...lower].join("L")}Z`, fill: color, class: "band" }, area);
        }
      const d = runs(trial.frame, good, step).map((run) => `M${run.map((k) => point(k, value[k])).join("L")}h.01`);
      if (d.length) element("path", { d: d.join(""), stroke: color, class: n ? "line" : "line label" }, area);
      for (const k of open)
        if (value[k] !== null && inside(k))
          element("circle", { cx: x(trial.frame[k]), cy: y(value[k]), r: 2.5, stroke: color, class: "open" }, area);
    });
    const cursor = element("path", { class: "cursor" }, area);
    const readout = element("text", { x: LEFT, y: 29, class: "readout" }, svg);
    const at = (event) => {
      const box = svg.getBoundingClientRect();
      const frame = from + ((((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT)) * (to - from);
      return Math.min(Math.max(frame, from), to);
    };
    const show = (k) => {
      cursor.setAttribute("d", `M${x(trial.frame[k])} ${TOP}V${HEIGHT}`);
      readout.replaceChildren();
      series.forEach(({ value, sd }, n) => {
        if (hidden.has(n)) return;
        const band = sd && sd[k] !== null ? ` ± ${shown(BAND * sd[k])}` : "";
        element("tspan", { fill: lines[n].color, dx: n ? 8 : 0 }, readout, shown(value[k]) + band);
      });
    };
    return { svg, at, show };
  }

  function draw(details, trial) {
    const figure = details.appendChild(document.createElement("div"));
    const legend = figure.appendChild(document.createElement("p"));
    const panels = figure.appendChild(document.createElement("div"));
    panels.className = "panels";
    const where = figure.appendChild(document.createElement("p"));
    where.className = "note";
    const first = trial.frame[0], last = trial.frame.at(-1), hidden = new Set();
    const steps = trial.frame.slice(1).map((frame, k) => frame - trial.frame[k]).sort((a, b) => a - b);
    const step = steps[steps.length >> 1] || 1;
    let range = [first, last], pressed = null;
    lines.forEach(({ name, color }, n) => {
      const button = legend.appendChild(document.createElement("button"));
      button.textContent = name;
      button.style.borderBottomColor = color;
      button.setAttribute("aria-pressed", "true");
      button.onclick = () => {
        hidden.has(n) ? hidden.delete(n) : hidden.add(n);
        button.setAttribute("aria-pressed", String(!hidden.has(n)));
        redraw();
      };
    });
    function nearest(frame) {
      let low = 0, high = trial.frame.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        trial.frame[middle] < frame ? (low = middle + 1) : (high = middle);
      }
      return low && frame - trial.frame[low - 1] < trial.frame[low] - frame ? low - 1 : low;
    }
    function redraw() {
      panels.replaceChildren();
      const made = data.names.map((_, coordinate) => panel(trial, coordinate, range, panels, hidden, step));
      const show = (k) => {
        made.forEach((each) => each.show(k));
        where.textContent = `frame ${trial.frame[k]}; ± ${BAND} SD. Drag to enlarge a part, double-click for the whole trial.`;
      };
      show(nearest(range[0]));
      for (const each of made) {
        each.svg.onpointermove = (event) => show(nearest(each.at(event)));
        each.svg.onpointerdown = (event) => { pressed = each.at(event); event.preventDefault(); };
        each.svg.onpointerup = (event) => {
          const ends = [pressed ?? each.at(event), each.at(event)].sort((a, b) => a - b);
          pressed = null;
          if (ends[1] - ends[0] < 0.05 * (range[1] - range[0])) return;
          range = ends.map((frame) => trial.frame[nearest(frame)]);
          redraw();
        };
        each.svg.ondblclick = () => { range = [first, last]; redraw(); };
      }
    }
    redraw();
  }

  for (const trial of data.trials) {
    const details = document.getElementById(`trial-${trial.id}`);
    let drawn = false;
    const open = () => { if (details.open && !drawn) { drawn = true; draw(details, trial); } };
    details.addEventListener("toggle", open);
    open();
  }
  function follow() {
    const target = document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
  }
  addEventListener("hashchange", follow);
  follow();
})();
