// Elements, numbers as text, and colors of values.
"use strict";

/** Returns an element; attributes that are functions are listeners, and children may be text. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const count = (n) => n.toLocaleString("en");
const percent = (p) => (p > 0 && p < 0.0005 ? "< 0.1 %" : p > 0.9995 && p < 1 ? "> 99.9 %" : `${(100 * p).toFixed(p % 1 ? 1 : 0)} %`);

/** Returns a value with three significant digits, with a real minus sign. */
function number(value, digits = 3) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size === 0 || (size >= 0.001 && size < 1e5)) return String(Number(value.toPrecision(digits))).replace("-", "\u2212");
  const [factor, power] = value.toExponential(1).split("e");
  const raised = String(Number(power)).replace(/[-\d]/g, (c) => "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"["-0123456789".indexOf(c)]);
  return `${factor.replace("-", "\u2212")} \u00d7 10${raised}`;
}

/** Returns a value in four characters and a sign, for tables of numbers. */
function short(value) {
  const size = Math.abs(value);
  const text = value.toFixed(size >= 99.95 ? 0 : size >= 0.995 ? 1 : 2);
  return (Number(text) === 0 ? "0" : text).replace("-", "\u2212");
}

const shapeText = (shape) =>
  shape.length === 3 ? `${count(shape[0])} map${shape[0] > 1 ? "s" : ""} of\u00a0${shape[1]}\u00a0\u00d7\u00a0${shape[2]}` : `${count(shape[0])} numbers`;

const darkScheme = matchMedia("(prefers-color-scheme: dark)");

/** The colors of values: nothing, strong, and strong negative ones; red, green, blue. */
function palette() {
  return darkScheme.matches
    ? { zero: [27, 29, 38], positive: [164, 214, 255], negative: [255, 158, 110] }
    : { zero: [238, 240, 245], positive: [19, 66, 110], negative: [190, 74, 30] };
}

/** Returns the color of a value from -1 to 1. */
function colorOf(value, { zero, positive, negative } = palette()) {
  const end = value < 0 ? negative : positive;
  const share = Number.isFinite(value) ? Math.min(Math.abs(value), 1) : 1;
  return zero.map((v, i) => Math.round(v + (end[i] - v) * share));
}

/** Returns black or white, whichever is easier to read on a color. */
function textOn(rgb) {
  const [red, green, blue] = rgb.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

/** Returns the scale of values for colorOf: negative values have their own color, others start at the smallest. */
function scaleOf(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low < 0) {
    const size = Math.max(-low, high) || 1;
    return { low, high, of: (v) => v / size };
  }
  const start = low > 0.2 * high ? low : 0; // of maps far from zero, the differences are shown
  const span = high - start || 1;
  return { low, high, of: (v) => (v - start) / span };
}

/** Draws values (height, width) as an image of one pixel each. */
function rasterize(values, offset, height, width, color) {
  const raster = new OffscreenCanvas(width, height);
  const pixels = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    const [red, green, blue] = color(values, offset + i);
    pixels.data.set([red, green, blue, 255], 4 * i);
  }
  raster.getContext("2d").putImageData(pixels, 0, 0);
  return raster;
}

/** Prepares a canvas for drawing in px of the page, sharp on every screen. */
function prepareCanvas(canvas, width, height) {
  const ratio = Math.max(window.devicePixelRatio || 1, 1);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.imageSmoothingEnabled = false;
  return context;
}

/** Draws a picture, gray or RGB, as it is. */
function drawPicture(canvas, { channels, height, width, data }) {
  canvas.width = width;
  canvas.height = height;
  const area = height * width;
  const pixel = (values, i) => (channels === 3 ? [values[i], values[area + i], values[2 * area + i]] : [values[i], values[i], values[i]]);
  canvas.getContext("2d").drawImage(rasterize(data, 0, height, width, pixel), 0, 0);
}
