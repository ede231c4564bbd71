// The operations that blocks are made of. Each knows the shape of its output, its cost, how to run, and which part of
// its input an output depends on.
"use strict";

/**
 * A region of maps: `c` lists the maps (null: all of them); `y` and `x` are the first and last row and column, which
 * may lie in the padding outside the map. Of a vector, only `c` counts.
 * @typedef {{c: number[] | null, y: [number, number], x: [number, number]}} Region
 */

/**
 * Base class of operations.
 * @property {string} kind what it is, for explanations
 * @property {number[]} inShape (C, H, W) or (C,)
 * @property {number[]} outShape
 * @property {number} params number of parameters
 * @property {number} macs multiply-adds for one image
 */
class Operation {
  constructor(kind, inShape, outShape, details = {}) {
    Object.assign(this, { kind, inShape, outShape, params: 0, macs: 0 }, details);
  }

  /** Returns the output for an input, both float32. */
  run(x) {
    return x;
  }

  /** Returns the region of the input that a region of the output depends on. */
  source(region) {
    return region;
  }
}

/** Applies a function to each value: an activation, or nothing (dropout). */
class Elementwise extends Operation {
  run(x) {
    return this.apply ? x.map(this.apply) : x;
  }
}

class Flatten extends Operation {
  source({ c }) {
    if (this.inShape.length === 1) return { c, y: [0, 0], x: [0, 0] };
    const [, height, width] = this.inShape;
    if (!c) return wholeOf(this.inShape);
    const [rows, columns] = [c.map((i) => Math.floor(i / width) % height), c.map((i) => i % width)];
    const maps = [...new Set(c.map((i) => Math.floor(i / (height * width))))];
    return { c: maps, y: [Math.min(...rows), Math.max(...rows)], x: [Math.min(...columns), Math.max(...columns)] };
  }
}

function wholeOf(shape) {
  return { c: null, y: [0, (shape[1] ?? 1) - 1], x: [0, (shape[2] ?? 1) - 1] };
}

/** Adds one bias per unit (1989). */
class UnitBiases extends Operation {
  run(x) {
    return x.map((value, i) => value + this.bias[i]);
  }
}

/** Adds a border of one value around each map. */
class Border extends Operation {
  run(x) {
    return padMaps(x, this.inShape, [this.size, this.size], this.value);
  }

  source({ c, y, x }) {
    const span = ([first, last]) => [first - this.size, last - this.size];
    return { c, y: span(y), x: span(x) };
  }
}

/** A window that slides over maps: the base class of convolutions and pools. */
class Sliding extends Operation {
  source({ c, y, x }) {
    const span = ([first, last], side) => {
      const { kernel, stride, padding, dilation } = this.settings;
      const start = first * stride[side] - padding[side];
      return [start, last * stride[side] - padding[side] + (dilation?.[side] ?? 1) * (kernel[side] - 1)];
    };
    return { c: this.inputMaps(c), y: span(y, 0), x: span(x, 1) };
  }

  /** Returns the input maps that output maps depend on. */
  inputMaps(c) {
    return c;
  }
}

class Convolution extends Sliding {
  run(x) {
    return conv2d(x, this.inShape, this.weight, this.bias, this.settings, this.outShape);
  }

  inputMaps(c) {
    const { groups } = this.settings;
    if (!c || groups === 1) return null;
    const [groupIn, groupOut] = [this.inShape[0] / groups, this.outShape[0] / groups];
    const used = new Set(c.map((o) => Math.floor(o / groupOut)));
    return [...used].flatMap((group) => Array.from({ length: groupIn }, (_, i) => group * groupIn + i));
  }

  /** Returns the kernels of an output map: the input map of each, and its weights. */
  kernels(o) {
    const area = this.settings.kernel[0] * this.settings.kernel[1];
    const maps = this.inputMaps([o]) ?? Array.from({ length: this.inShape[0] }, (_, i) => i);
    return maps.map((map, i) => {
      const start = (o * maps.length + i) * area;
      return { map, weights: this.weight.subarray(start, start + area) };
    });
  }

  biasOf(o) {
    return this.bias ? this.bias[o] : 0;
  }
}

/** A convolution with a connection table: each output map has its own list of input maps. */
class TableConvolution extends Sliding {
  run(x) {
    const [channels, height, width] = this.inShape;
    const area = height * width;
    const [, outHeight, outWidth] = this.outShape;
    const out = new Float32Array(this.outShape.reduce((a, b) => a * b));
    this.table.forEach((inputs, o) => {
      const gathered = new Float32Array(inputs.length * area);
      inputs.forEach((map, i) => gathered.set(x.subarray(map * area, (map + 1) * area), i * area));
      const shape = [inputs.length, height, width];
      const bias = this.biases ? [this.biases[o]] : null;
      const settings = { ...this.settings, groups: 1 };
      const map = conv2d(gathered, shape, this.weights[o], bias, settings, [1, outHeight, outWidth]);
      out.set(map, o * outHeight * outWidth);
    });
    return out;
  }

  inputMaps(c) {
    return c && [...new Set(c.flatMap((o) => this.table[o]))].sort((a, b) => a - b);
  }

  kernels(o) {
    const area = this.settings.kernel[0] * this.settings.kernel[1];
    return this.table[o].map((map, i) => ({ map, weights: this.weights[o].subarray(i * area, (i + 1) * area) }));
  }

  biasOf(o) {
    return this.biases ? this.biases[o] : 0;
  }
}

class Pooling extends Sliding {
  run(x) {
    const { kernel, stride, padding } = this.settings;
    const [, height, width] = this.inShape;
    const rows = (i) => slidingWindow(i, height, kernel[0], stride[0], padding[0]);
    const columns = (i) => slidingWindow(i, width, kernel[1], stride[1], padding[1]);
    return pool2d(x, this.inShape, this.outShape, rows, columns, this.isMax);
  }
}

class AdaptivePooling extends Operation {
  run(x) {
    const rows = (i) => adaptiveWindow(i, this.inShape[1], this.outShape[1]);
    const columns = (i) => adaptiveWindow(i, this.inShape[2], this.outShape[2]);
    return pool2d(x, this.inShape, this.outShape, rows, columns, this.isMax);
  }

  source({ c, y, x }) {
    const span = ([first, last], side) => {
      const start = adaptiveWindow(first, this.inShape[side], this.outShape[side])[0];
      return [start, adaptiveWindow(last, this.inShape[side], this.outShape[side])[1] - 1];
    };
    return { c, y: span(y, 1), x: span(x, 2) };
  }
}

/** Trainable pooling of 1998: the sum of a window times a coefficient, plus a bias. */
class Subsampling extends Pooling {
  run(x) {
    const means = super.run(x);
    const area = this.outShape[1] * this.outShape[2];
    const count = this.settings.kernel[0] * this.settings.kernel[1];
    return means.map((mean, i) => {
      const c = Math.floor(i / area);
      return mean * count * this.weight[c] + this.bias[c];
    });
  }
}

/** Every output depends on every input. */
class FullyConnected extends Operation {
  run(x) {
    return dense(x, this.weight, this.bias, this.outShape[0]);
  }

  source() {
    return wholeOf(this.inShape);
  }

  biasOf(o) {
    return this.bias ? this.bias[o] : 0;
  }

  weightsOf(o) {
    return this.weight.subarray(o * this.inShape[0], (o + 1) * this.inShape[0]);
  }
}

class RadialBasis extends Operation {
  run(x) {
    return rbf(x, this.codes);
  }

  source() {
    return wholeOf(this.inShape);
  }

  weightsOf(o) {
    return this.codes[o];
  }
}

class LocalNorm extends Operation {
  run(x) {
    return localResponseNorm(x, this.inShape, this.settings);
  }

  source({ c, y, x }) {
    if (!c) return { c, y, x };
    const { size } = this.settings;
    const used = new Set();
    for (const map of c) {
      for (let i = map - Math.floor(size / 2); i <= map + Math.floor((size - 1) / 2); i++) {
        if (i >= 0 && i < this.inShape[0]) used.add(i);
      }
    }
    return { c: [...used].sort((a, b) => a - b), y, x };
  }
}

/** Normalization with stored statistics (batch), or with those of the maps (instance, group, layer). */
class Normalization extends Operation {
  run(x) {
    return normalize(x, this.inShape, this.statistics(x), this.eps, this.weight, this.bias);
  }

  /** Returns mean and variance of each map, as a function of its number. */
  statistics(x) {
    if (!this.groups) return (c) => [this.mean[c], this.variance[c]];
    const groups = groupStatistics(x, this.groups);
    return (c) => groups[Math.floor((c * this.groups) / this.inShape[0])];
  }

  source(region) {
    if (!this.groups) return region;
    const size = this.inShape[0] / this.groups;
    const used = region.c && new Set(region.c.map((c) => Math.floor(c / size)));
    const c = used && [...used].flatMap((group) => Array.from({ length: size }, (_, i) => group * size + i));
    return { ...wholeOf(this.inShape), c };
  }
}

/** Parallel paths of blocks, whose outputs are joined or added. */
class Branches extends Operation {
  run(x, visit) {
    const outs = this.paths.map((path) => runBlocks(path, x, visit));
    if (this.merge === "add") return outs.reduce((a, b) => a.map((value, i) => value + b[i]));
    const joined = new Float32Array(outs.reduce((length, out) => length + out.length, 0));
    outs.reduce((at, out) => (joined.set(out, at), at + out.length), 0);
    return joined;
  }

  source(region) {
    let start = 0;
    const regions = [];
    for (const path of this.paths) {
      const channels = path.length ? path.at(-1).outShape[0] : this.inShape[0];
      const first = start;
      if (this.merge === "concat") start += channels;
      const c = this.merge === "add" ? region.c : region.c && region.c.map((i) => i - first).filter((i) => i >= 0 && i < channels);
      if (c && !c.length) continue;
      regions.push(path.reduceRight((inner, block) => block.source(inner), { ...region, c }));
    }
    return regions.reduce((a, b) => ({
      c: a.c && b.c && [...new Set([...a.c, ...b.c])].sort((i, j) => i - j),
      y: [Math.min(a.y[0], b.y[0]), Math.max(a.y[1], b.y[1])],
      x: [Math.min(a.x[0], b.x[0]), Math.max(a.x[1], b.x[1])],
    }));
  }
}
