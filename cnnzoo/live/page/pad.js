// The pad: a picture to draw on, in the network's own resolution, and its tools.
"use strict";

const pad = { canvas: null, brush: 255, color: "#ffffff", frame: null, last: null };

function buildPad() {
  pad.canvas = h("canvas", {
    id: "pad",
    tabindex: 0,
    role: "application",
    "aria-label": "Pad: draw here with the mouse or a finger. Keys: arrows shift the picture, I inverts, N adds noise, R rotates, Delete clears.",
    pointerdown: startStroke,
    pointermove: continueStroke,
    pointerup: () => (pad.last = null),
    pointercancel: () => (pad.last = null),
    keydown: padKey,
  });
  pad.frame = h("canvas", { class: "overlay", "aria-hidden": "true" });
  const tool = (text, label, action) => h("button", { type: "button", title: label, "aria-label": label, click: action }, text);
  const tools = [
    tool("Clear", "Clear the pad", clearPad),
    tool("Invert", "Swap light and dark", () => edit((picture) => mapPixels(picture, (v) => 255 - v))),
    tool("Noise", "Add random noise", addNoise),
  ];
  const moves = [
    tool("\u2190", "Shift left", () => shift(0, -1)),
    tool("\u2192", "Shift right", () => shift(0, 1)),
    tool("\u2191", "Shift up", () => shift(-1, 0)),
    tool("\u2193", "Shift down", () => shift(1, 0)),
    tool("\u21ba", "Rotate left", () => rotate(-15)),
    tool("\u21bb", "Rotate right", () => rotate(15)),
  ];
  const eraser = h("label", {}, h("input", { type: "checkbox", change: (e) => (pad.brush = e.target.checked ? 0 : 255) }), " eraser");
  pad.picker = h("label", { hidden: true }, h("input", { type: "color", value: pad.color, input: (e) => (pad.color = e.target.value) }), " color");
  on("picture", drawPad);
  return [h("div", { class: "pad" }, pad.canvas, pad.frame), h("div", { class: "tools" }, tools), h("div", { class: "tools" }, moves), h("div", { class: "row" }, eraser, pad.picker)];
}

function drawPad() {
  if (!app.picture) return;
  pad.picker.hidden = app.picture.channels !== 3;
  drawPicture(pad.canvas, isLarge(app.picture) ? active().preprocessing.crop(app.picture) : app.picture);
}

function clearPad() {
  showPicture(active().preprocessing.blank());
}

/** Returns whether a picture, such as a photograph, is too large to be changed pixel by pixel. */
const isLarge = ({ height, width }) => height * width > 2 ** 18;

/** Shows what a function makes of the picture. */
function edit(change) {
  showPicture(change(isLarge(app.picture) ? active().preprocessing.crop(app.picture) : app.picture));
}

function mapPixels(picture, change) {
  return { ...picture, data: picture.data.map(change) };
}

function addNoise() {
  edit((picture) => mapPixels(picture, (v) => Math.min(Math.max(v + 60 * (Math.random() + Math.random() - 1), 0), 255)));
}

/** Moves the picture: by one 28th of its side; what leaves it is lost. */
function shift(down, right) {
  edit((picture) => {
    const [dy, dx] = [down * Math.ceil(picture.height / 28), right * Math.ceil(picture.width / 28)];
    return resample(picture, (y, x) => [y - dy, x - dx]);
  });
}

function rotate(degrees) {
  const [sin, cos] = [Math.sin, Math.cos].map((f) => f((degrees * Math.PI) / 180));
  edit((picture) => {
    const [cy, cx] = [(picture.height - 1) / 2, (picture.width - 1) / 2];
    return resample(picture, (y, x) => [cy + (y - cy) * cos - (x - cx) * sin, cx + (y - cy) * sin + (x - cx) * cos]);
  });
}

/** Returns a picture whose pixels come from other places, bilinearly; outside is black. */
function resample(picture, from) {
  const { channels, height, width, data } = picture;
  const out = new Uint8Array(data.length);
  const at = (c, y, x) => (y >= 0 && x >= 0 && y < height && x < width ? data[(c * height + y) * width + x] : 0);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [v, u] = from(y, x);
      const [top, left] = [Math.floor(v), Math.floor(u)];
      const [b, a] = [v - top, u - left];
      for (let c = 0; c < channels; c++) {
        const upper = at(c, top, left) * (1 - a) + at(c, top, left + 1) * a;
        const lower = at(c, top + 1, left) * (1 - a) + at(c, top + 1, left + 1) * a;
        out[(c * height + y) * width + x] = Math.round(upper * (1 - b) + lower * b);
      }
    }
  }
  return { ...picture, data: out };
}

// --- drawing ---

function place(event) {
  const box = pad.canvas.getBoundingClientRect();
  const { height, width } = app.picture;
  return [((event.clientY - box.top) / box.height) * height, ((event.clientX - box.left) / box.width) * width];
}

function startStroke(event) {
  pad.canvas.setPointerCapture(event.pointerId);
  event.preventDefault();
  pad.canvas.focus({ preventScroll: true });
  const size = active().preprocessing.size;
  if (app.picture.height !== size[0] || app.picture.width !== size[1]) app.picture = active().preprocessing.crop(app.picture);
  pad.last = place(event);
  stroke(pad.last);
}

function continueStroke(event) {
  if (!pad.last || !event.buttons) return;
  const points = event.getCoalescedEvents?.() ?? [];
  for (const point of points.length ? points : [event]) stroke(place(point));
}

/** Draws a line from the last place, with a soft edge. */
function stroke(to) {
  const { channels, height, width } = app.picture;
  const data = app.picture.data.slice();
  const radius = Math.max(1.1, width / 24);
  const [from, length] = [pad.last, Math.hypot(to[0] - pad.last[0], to[1] - pad.last[1])];
  const rgb = [1, 3, 5].map((i) => parseInt(pad.color.slice(i, i + 2), 16));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [py, px] = [y + 0.5 - from[0], x + 0.5 - from[1]];
      const [dy, dx] = [to[0] - from[0], to[1] - from[1]];
      const along = length ? Math.min(Math.max((py * dy + px * dx) / length ** 2, 0), 1) : 0;
      const opacity = Math.min(Math.max(radius + 0.5 - Math.hypot(py - along * dy, px - along * dx), 0), 1);
      if (!opacity) continue;
      for (let c = 0; c < channels; c++) {
        const i = (c * height + y) * width + x;
        const target = !pad.brush ? 0 : channels === 3 ? rgb[c] : 255;
        data[i] = pad.brush && channels === 1 ? Math.max(data[i], target * opacity) : data[i] + (target - data[i]) * opacity;
      }
    }
  }
  pad.last = to;
  showPicture({ ...app.picture, data });
}

function padKey(event) {
  const actions = {
    ArrowLeft: () => shift(0, -1),
    ArrowRight: () => shift(0, 1),
    ArrowUp: () => shift(-1, 0),
    ArrowDown: () => shift(1, 0),
    Delete: clearPad,
    Backspace: clearPad,
    i: () => edit((picture) => mapPixels(picture, (v) => 255 - v)),
    n: addNoise,
    r: () => rotate(15),
  };
  const action = actions[event.key] ?? actions[event.key.toLowerCase()];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
}
