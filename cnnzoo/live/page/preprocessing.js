// How a picture becomes a network's input: the same numbers as cnnzoo.Preprocessing, which are those of PIL.
"use strict";

/**
 * A picture: channels, height, width and values from 0 to 255, map by map.
 * @typedef {{channels: number, height: number, width: number, data: Uint8Array}} Picture
 */

const PRECISION = 22; // bits of PIL's fixed-point coefficients
const MAX_ASPECT = 16;
const FILTERS = {
  bilinear: [(v) => Math.max(1 - Math.abs(v), 0), 1],
  bicubic: [cubic, 2],
};

function cubic(v) {
  v = Math.abs(v);
  if (v < 1) return (1.5 * v - 2.5) * v * v + 1;
  return v < 2 ? (((v - 5) * v + 8) * v - 4) * -0.5 : 0;
}

class Preprocessing {
  /** @param {object} description what CNN.describe() returns */
  constructor(description) {
    const config = description.pretrained_cfg ?? {};
    const [channels, ...size] = config.input_size ?? description.cnnzoo.spec.input;
    const mean = config.mean ?? Array(channels).fill(0);
    const std = config.std ?? Array(channels).fill(1);
    const { crop_mode: cropMode = "squash", crop_pct: cropPct = 1, interpolation = "bilinear" } = config;
    const decoding = description.cnnzoo.decoding ?? {};
    Object.assign(this, { channels, size, mean, std, cropMode, cropPct, interpolation });
    Object.assign(this, { imageSize: decoding.image_size ?? null, background: decoding.background ?? 255 });
  }

  /** Returns a black picture in the size of the input. */
  blank() {
    const [height, width] = this.size;
    return { channels: this.channels, height, width, data: new Uint8Array(this.channels * height * width) };
  }

  /** Returns the input of a picture, float32 (C * H * W,). */
  apply(picture) {
    return this.normalize(this.crop(picture));
  }

  /** Returns a picture brought to the size of the input. */
  crop(picture) {
    picture = convertChannels(picture, this.channels);
    if (this.imageSize) {
      const square = [this.imageSize, this.imageSize];
      picture = centralWindow(resizeToCover(picture, square, "bilinear"), square);
    }
    const target = this.size.map((side) => Math.trunc(side / this.cropPct + 1e-6));
    const { height, width } = picture;
    if (this.cropMode === "squash") return centralWindow(resize(picture, target, this.interpolation), this.size);
    if (this.cropMode === "center") return centralWindow(resizeToCover(picture, target, this.interpolation), this.size);
    const factor = Math.min(1, target[0] / height, target[1] / width);
    const inner = [height, width].map((side) => Math.max(1, roundHalfEven(side * factor)));
    return centralWindow(resize(picture, inner, this.interpolation), this.size);
  }

  normalize({ channels, data }) {
    const area = data.length / channels;
    const out = new Float32Array(data.length);
    for (let c = 0; c < channels; c++) {
      const scale = Math.fround(1 / (255 * this.std[c]));
      const shift = Math.fround(-this.mean[c] / this.std[c]);
      for (let i = c * area; i < (c + 1) * area; i++) out[i] = Math.fround(data[i] * scale) + shift;
    }
    return out;
  }
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest === 0.5 ? floor + (floor % 2) : Math.round(value);
}

/** Returns gray as RGB, or RGB as gray with PIL's integer weights. */
function convertChannels(picture, channels) {
  const { data, channels: before } = picture;
  if (before === channels) return picture;
  const area = data.length / before;
  const out = new Uint8Array(channels * area);
  if (before === 1) for (let c = 0; c < channels; c++) out.set(data, c * area);
  else if (before === 3 && channels === 1) {
    for (let i = 0; i < area; i++) out[i] = (data[i] * 19595 + data[area + i] * 38470 + data[2 * area + i] * 7471 + 0x8000) >> 16;
  } else throw new PageError(`The network takes pictures of ${channels} channels, and this one has ${before}.`);
  return { ...picture, channels, data: out };
}

/** Returns a picture resized, to the same values as PIL's Image.resize. */
function resize(picture, [height, width], interpolation) {
  const heightFirst = picture.height - height > Math.max(2 * (picture.width - width), 0);
  const sides = heightFirst ? [[height, true], [width, false]] : [[width, false], [height, true]];
  return sides.reduce((result, [side, isHeight]) => resizeSide(result, side, isHeight, interpolation), picture);
}

function resizeSide(picture, side, isHeight, interpolation) {
  const { channels, height, width, data } = picture;
  const before = isHeight ? height : width;
  if (before === side) return picture;
  const [newHeight, newWidth] = isHeight ? [side, width] : [height, side];
  const out = new Uint8Array(channels * newHeight * newWidth);
  const step = isHeight ? width : 1; // between values that are summed
  coefficients(before, side, interpolation).forEach(({ first, weights }, i) => {
    for (let c = 0; c < channels; c++) {
      for (let j = 0; j < (isHeight ? width : height); j++) {
        let at = c * height * width + (isHeight ? first * width + j : j * width + first);
        let sum = 2 ** (PRECISION - 1);
        for (let n = 0; n < weights.length; n++, at += step) sum += data[at] * weights[n];
        const value = Math.min(Math.max(Math.floor(sum / 2 ** PRECISION), 0), 255);
        out[c * newHeight * newWidth + (isHeight ? i * newWidth + j : j * newWidth + i)] = value;
      }
    }
  });
  return { channels, height: newHeight, width: newWidth, data: out };
}

/** Returns, for each new pixel, the first old one and the weights from there on, in units of 2**-22. */
function coefficients(before, after, interpolation) {
  const [filter, halfBase] = FILTERS[interpolation];
  const scale = before / after;
  const stretch = Math.max(scale, 1); // filters widen when shrinking
  const radius = halfBase * stretch;
  return Array.from({ length: after }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(center - radius + 0.5), 0);
    const last = Math.min(Math.trunc(center + radius + 0.5), before);
    const values = Array.from({ length: last - first }, (_, n) => filter((first + n - center + 0.5) * (1 / stretch)));
    const total = values.reduce((a, b) => a + b, 0);
    const weights = values.map((v) => Math.trunc((v / total) * 2 ** PRECISION + (v >= 0 ? 0.5 : -0.5)));
    return { first, weights };
  });
}

/** Returns a picture resized to the smallest size that covers a target, aspect ratio kept. */
function resizeToCover(picture, [newHeight, newWidth], interpolation) {
  const short = Math.min(picture.height, picture.width);
  picture = centralWindow(picture, [picture.height, picture.width].map((side) => Math.min(side, MAX_ASPECT * short)));
  const { height, width } = picture;
  const size =
    newHeight * width >= newWidth * height
      ? [newHeight, Math.max(Math.trunc((newHeight * width) / height), newWidth)]
      : [Math.max(Math.trunc((newWidth * height) / width), newHeight), newWidth];
  return resize(picture, size, interpolation);
}

/** Returns the center of a picture, with black around it where the window is larger. */
function centralWindow(picture, [height, width]) {
  const { channels, data } = picture;
  if (picture.height === height && picture.width === width) return picture;
  const out = new Uint8Array(channels * height * width);
  const [top, left] = [[picture.height, height], [picture.width, width]].map(([old, side]) =>
    old < side ? -Math.floor((side - old) / 2) : roundHalfEven((old - side) / 2),
  );
  for (let c = 0; c < channels; c++) {
    for (let y = Math.max(0, -top); y < height && y + top < picture.height; y++) {
      const x = Math.max(0, -left);
      const count = Math.min(width - x, picture.width - Math.max(left, 0));
      const from = (c * picture.height + y + top) * picture.width + Math.max(left, 0);
      out.set(data.subarray(from, from + count), (c * height + y) * width + x);
    }
  }
  return { channels, height, width, data: out };
}
