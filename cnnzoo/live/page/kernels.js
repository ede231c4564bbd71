// The arithmetic of layers, on one image: float32 maps (C, H, W), sums in float64.
"use strict";

/** Returns a map with rows and columns added on each side. */
function padMaps(x, [channels, height, width], [top, left], value = 0) {
  if (!top && !left) return x;
  const [newHeight, newWidth] = [height + 2 * top, width + 2 * left];
  const out = new Float32Array(channels * newHeight * newWidth).fill(value);
  for (let row = 0; row < channels * height; row++) {
    const at = (Math.floor(row / height) * newHeight + top + (row % height)) * newWidth + left;
    out.set(x.subarray(row * width, (row + 1) * width), at);
  }
  return out;
}

/**
 * Convolution. The weights of four output maps are read together, for two neighboring places, so that each value of
 * the input is read once for four maps.
 * @param {Float32Array} weight (O, C / groups, kernel height, kernel width)
 * @param {Float32Array | null} bias (O,)
 * @param {{kernel, stride, padding, dilation, groups}} s settings; pairs (height, width)
 */
function conv2d(x, [channels, height, width], weight, bias, s, [outChannels, outHeight, outWidth]) {
  const padded = padMaps(x, [channels, height, width], s.padding);
  const [rows, columns] = [height + 2 * s.padding[0], width + 2 * s.padding[1]];
  const [groupIn, groupOut] = [channels / s.groups, outChannels / s.groups];
  const taps = groupIn * s.kernel[0] * s.kernel[1];
  const offsets = new Int32Array(taps); // of each weight's value from the corner of the window
  for (let t = 0; t < taps; t++) {
    const column = t % s.kernel[1];
    const row = Math.floor(t / s.kernel[1]) % s.kernel[0];
    const map = Math.floor(t / (s.kernel[0] * s.kernel[1]));
    offsets[t] = (map * rows + row * s.dilation[0]) * columns + column * s.dilation[1];
  }
  const out = new Float32Array(outChannels * outHeight * outWidth);
  const packed = new Float64Array(4 * taps);
  for (let group = 0; group < s.groups; group++) {
    const groupStart = group * groupIn * rows * columns;
    for (let o = group * groupOut; o < (group + 1) * groupOut; o += 4) {
      const n = Math.min(4, (group + 1) * groupOut - o);
      for (let i = 0; i < 4; i++) {
        for (let t = 0; t < taps; t++) packed[4 * t + i] = i < n ? weight[(o + i) * taps + t] : 0;
      }
      const biases = [0, 1, 2, 3].map((i) => (bias && i < n ? bias[o + i] : 0));
      convolveFour(padded, groupStart, columns, offsets, packed, biases, s.stride, out, o, n, outHeight, outWidth);
    }
  }
  return out;
}

function convolveFour(x, start, columns, offsets, packed, biases, stride, out, o, n, outHeight, outWidth) {
  const area = outHeight * outWidth;
  const taps = offsets.length;
  const bias0 = biases[0];
  const bias1 = biases[1];
  const bias2 = biases[2];
  const bias3 = biases[3];
  for (let y = 0; y < outHeight; y++) {
    for (let left = 0; left < outWidth; left += 2) {
      const a = start + y * stride[0] * columns + left * stride[1];
      const isPair = left + 1 < outWidth;
      const b = isPair ? a + stride[1] : a;
      let a0 = bias0;
      let a1 = bias1;
      let a2 = bias2;
      let a3 = bias3;
      let b0 = bias0;
      let b1 = bias1;
      let b2 = bias2;
      let b3 = bias3;
      for (let t = 0, p = 0; t < taps; t++, p += 4) {
        const offset = offsets[t];
        const va = x[a + offset];
        const vb = x[b + offset];
        const w0 = packed[p];
        const w1 = packed[p + 1];
        const w2 = packed[p + 2];
        const w3 = packed[p + 3];
        a0 += va * w0;
        a1 += va * w1;
        a2 += va * w2;
        a3 += va * w3;
        b0 += vb * w0;
        b1 += vb * w1;
        b2 += vb * w2;
        b3 += vb * w3;
      }
      let at = o * area + y * outWidth + left;
      out[at] = a0;
      if (isPair) out[at + 1] = b0;
      if (n > 1) { at += area; out[at] = a1; if (isPair) out[at + 1] = b1; }
      if (n > 2) { at += area; out[at] = a2; if (isPair) out[at + 1] = b2; }
      if (n > 3) { at += area; out[at] = a3; if (isPair) out[at + 1] = b3; }
    }
  }
}

/** Returns the number of windows along one side, as torch counts them. */
function windowCount(size, kernel, stride, padding, dilation = 1, ceilMode = false) {
  const steps = size + 2 * padding - dilation * (kernel - 1) - 1;
  let count = (ceilMode ? Math.ceil(steps / stride) : Math.floor(steps / stride)) + 1;
  if (ceilMode && (count - 1) * stride >= size + padding) count--; // the last window must start inside
  return count;
}

/**
 * Pooling.
 * @param {function(number): [number, number, number]} windows start, end and divisor of a row; and of a column
 */
function pool2d(x, [channels, height, width], [, outHeight, outWidth], rowWindow, columnWindow, isMax) {
  const out = new Float32Array(channels * outHeight * outWidth);
  const columnWindows = Array.from({ length: outWidth }, (_, i) => columnWindow(i));
  for (let c = 0, at = 0; c < channels; c++) {
    const map = c * height * width;
    for (let y = 0; y < outHeight; y++) {
      const [top, bottom, rows] = rowWindow(y);
      for (let i = 0; i < outWidth; i++, at++) {
        const [left, right, columns] = columnWindows[i];
        let result = isMax ? -Infinity : 0;
        for (let row = top; row < bottom; row++) {
          for (let j = map + row * width + left; j < map + row * width + right; j++) {
            if (!isMax) result += x[j];
            else if (x[j] > result || Number.isNaN(x[j])) result = x[j];
          }
        }
        out[at] = isMax ? result : result / (rows * columns);
      }
    }
  }
  return out;
}

/** Returns start, end and divisor of the i-th window along one side; padding counts for the divisor. */
function slidingWindow(i, size, kernel, stride, padding) {
  const start = i * stride - padding;
  const end = Math.min(start + kernel, size + padding);
  return [Math.max(start, 0), Math.min(end, size), end - start];
}

/** Returns start, end and divisor of the i-th of `count` windows that divide a side, as adaptive pooling does. */
function adaptiveWindow(i, size, count) {
  const start = Math.floor((i * size) / count);
  const end = Math.ceil(((i + 1) * size) / count);
  return [start, end, end - start];
}

function dense(x, weight, bias, outFeatures) {
  const n = x.length;
  return Float32Array.from({ length: outFeatures }, (_, o) => {
    let sum = bias ? bias[o] : 0;
    for (let i = 0, w = o * n; i < n; i++, w++) sum += x[i] * weight[w];
    return sum;
  });
}

/** Returns minus half the squared distance to each code. */
function rbf(x, codes) {
  return Float32Array.from(codes, (code) => {
    let sum = 0;
    for (let i = 0; i < code.length; i++) sum += (x[i] - code[i]) ** 2;
    return -sum / 2;
  });
}

/** Local response normalization across `size` neighboring maps; `alpha` is the factor of the sum of squares. */
function localResponseNorm(x, [channels, height, width], { size, alpha, beta, k }) {
  const area = height * width;
  const out = new Float32Array(x.length);
  const [before, after] = [Math.floor(size / 2), Math.floor((size - 1) / 2)];
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < area; i++) {
      let sum = 0;
      for (let n = Math.max(c - before, 0); n <= Math.min(c + after, channels - 1); n++) sum += x[n * area + i] ** 2;
      out[c * area + i] = x[c * area + i] / (k + alpha * sum) ** beta;
    }
  }
  return out;
}

/**
 * Returns the mean and the variance of each group of values.
 * @param {number} count number of groups
 */
function groupStatistics(x, count) {
  const size = x.length / count;
  return Array.from({ length: count }, (_, group) => {
    let mean = 0;
    for (let i = group * size; i < (group + 1) * size; i++) mean += x[i];
    mean /= size;
    let variance = 0;
    for (let i = group * size; i < (group + 1) * size; i++) variance += (x[i] - mean) ** 2;
    return [mean, variance / size];
  });
}

/**
 * Normalizes each map with a mean and a variance.
 * @param {function(number): [number, number]} statistics mean and variance of a map
 */
function normalize(x, [channels, height, width], statistics, eps, weight, bias) {
  const area = height * width;
  const out = new Float32Array(x.length);
  for (let c = 0; c < channels; c++) {
    const [mean, variance] = statistics(c);
    const scale = weight[c] / Math.sqrt(variance + eps);
    for (let i = c * area; i < (c + 1) * area; i++) out[i] = (x[i] - mean) * scale + bias[c];
  }
  return out;
}

/** Activations by their name in a Spec, each a function of one value. */
const ACTIVATIONS = {
  relu: (v) => (v > 0 ? v : v <= 0 ? 0 : v), // NaN stays NaN
  relu6: (v) => Math.min(Math.max(v, 0), 6),
  leaky_relu: (v) => (v > 0 ? v : 0.01 * v),
  elu: (v) => (v > 0 ? v : Math.expm1(v)),
  gelu: (v) => 0.5 * v * erfc(-v * Math.SQRT1_2),
  silu: (v) => v / (1 + Math.exp(-v)),
  hardswish: (v) => (v * Math.min(Math.max(v + 3, 0), 6)) / 6,
  sigmoid: (v) => 1 / (1 + Math.exp(-v)),
  tanh: Math.tanh,
  scaled_tanh: (v) => 1.7159 * Math.tanh((2 / 3) * v),
};

/** The complementary error function, to 1.2e-7 of its value (Press et al., Numerical Recipes, section 6.2). */
function erfc(v) {
  const t = 1 / (1 + 0.5 * Math.abs(v));
  const coefficients = [
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
    -1.26551223,
  ];
  const tail = t * Math.exp(coefficients.reduce((sum, c) => sum * t + c, 0) - v * v);
  return v >= 0 ? tail : 2 - tail;
}

/** Returns the probabilities of scores. */
function softmax(scores) {
  const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Array.from(scores, (score) => Math.exp(score - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}
