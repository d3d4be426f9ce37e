// The page of predictions: a frame of the data set or two files go to the server, poses and their overlay come back.

const PLANES = ["bs", "fs"];
const ENDED = 4000; // codes from here on: the server has closed the page for good

const $ = (id) => document.getElementById(id);
const state = { frames: [], mostBytes: 0, busy: false, implants: null };
let socket = null;

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/predict/socket`);
  socket.binaryType = "blob";
  socket.onmessage = ({ data }) => (typeof data === "string" ? receive(JSON.parse(data)) : showOverlay(data));
  socket.onclose = (event) => {
    setBusy(false);
    say(event.code >= ENDED ? event.reason : "the server has gone away; this page connects again when it is back at this address", true);
    if (event.code < ENDED) setTimeout(connect, 1000);
  };
}

function receive(message) {
  if (message.frames) showFrames(message);
  else if (message.error) {
    setBusy(false);
    say(message.error, true);
  } else showPoses(message.implants);
}

function say(text, isError = false) {
  $("message").textContent = text;
  $("message").className = isError ? "error" : "";
}

function setBusy(busy) {
  state.busy = busy;
  for (const id of ["predict", "predict-files"]) $(id).disabled = busy;
}

function showFrames({ frames, most_bytes: mostBytes }) {
  Object.assign(state, { frames, mostBytes });
  $("most").textContent = `${mostBytes / 1e6} MB`;
  $("frame").replaceChildren(
    ...frames.map((frame) => new Option(`trial ${frame.trial_id}, frame ${frame.frame_index}`, frame.measurement_id)),
  );
  showImages();
  setBusy(false);
  say("choose a frame, and press predict");
}

function showImages() {
  for (const plane of PLANES) {
    const address = `/image/${$("frame").value}/${plane}.png`;
    $(plane).src = address;
    const link = $(plane).parentElement.querySelector("a");
    link.href = address;
    link.download = `${plane}_${$("frame").value}.png`;
  }
}

function showPoses(implants) {
  state.implants = implants;
  const fixed = (values) => values.map((value) => value.toFixed(2)).join(", ");
  $("poses").hidden = false;
  $("poses").tBodies[0].replaceChildren(
    ...implants.map((each) => {
      const row = document.createElement("tr");
      const off = each.off_mm === undefined ? "unknown" : `${each.off_mm.toFixed(2)} mm, ${each.off_deg.toFixed(2)}°`;
      const confidence = each.confidence === null ? "unknown" : each.confidence.toFixed(2);
      for (const text of [
        `${each.component} ${each.anatomy_id}`, fixed(each.translation_mm), fixed(each.rz_rx_ry_deg), confidence, off,
      ]) row.insertCell().textContent = text;
      return row;
    }),
  );
}

function showOverlay(png) {
  URL.revokeObjectURL($("overlay").src);
  $("overlay").src = URL.createObjectURL(png);
  $("overlay").hidden = false;
  setBusy(false);
  say("");
}

function hideFound() {
  $("overlay").hidden = true;
  $("poses").hidden = true;
}

function ask(images) {
  if (socket.readyState !== WebSocket.OPEN || state.busy) return;
  setBusy(true);
  say("predicting ...");
  hideFound();
  socket.send(JSON.stringify({ measurement_id: Number($("frame").value), images }));
}

async function encoded(file) {
  const address = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  return address.slice(address.indexOf(",") + 1);
}

async function predictFiles() {
  const images = {};
  for (const plane of PLANES) {
    const [file] = $(`file-${plane}`).files;
    if (!file) {
      say(`choose an image file of ${plane}`, true);
      return;
    }
    if (file.size > state.mostBytes) {
      say(`${file.name} has ${file.size.toLocaleString("en")} bytes; at most ${state.mostBytes.toLocaleString("en")} are taken`, true);
      return;
    }
    images[plane] = await encoded(file);
  }
  ask(images);
}

$("frame").addEventListener("change", () => {
  showImages();
  hideFound();
});
$("predict").addEventListener("click", () => ask({}));
$("predict-files").addEventListener("click", predictFiles);
setBusy(true);
connect();
window.predictions = state; // for scripts, and the browser's console
