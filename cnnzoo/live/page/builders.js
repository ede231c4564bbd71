// From the blocks of a Spec to operations, with the shapes and the weights that torch gives them.
"use strict";

const pair = (value) => (Array.isArray(value) ? value : [value, value]);
const product = (values) => values.reduce((a, b) => a * b, 1);

/** One function per kind of block: settings, shape of the input and context -> operations. */
const BUILDERS = {
  Conv(b, shape, context) {
    const settings = slidingSettings(b);
    const { groups } = settings;
    if (requireMaps(shape, context)[0] % groups || b.out_channels % groups) {
      throw new PageError(`Block ${context.label} has ${groups} groups, which do not divide its maps.`);
    }
    const outShape = [b.out_channels, ...slidingSize(shape, settings)];
    const weights = [b.out_channels, shape[0] / groups, ...settings.kernel];
    const layer = weighted(Convolution, "convolution", shape, outShape, weights, b.bias, context, {
      settings,
      macs: product(weights) * outShape[1] * outShape[2],
    });
    return withNormAndActivation([layer], b, context);
  },

  TableConv(b, shape, context) {
    requireMaps(shape, context);
    const settings = slidingSettings(b);
    const outShape = [b.table.length, ...slidingSize(shape, settings)];
    const area = product(settings.kernel);
    const prefix = context.nextModule();
    const maps = new Map(); // maps with equally many inputs share a module
    b.table.forEach((inputs, o) => maps.set(inputs.length, [...(maps.get(inputs.length) ?? []), o]));
    const weights = [];
    const biases = b.bias ? new Float32Array(outShape[0]) : null;
    [...maps].forEach(([fanIn, outs], i) => {
      const weight = context.reader.read(`${prefix}convs.${i}.weight`, [outs.length, fanIn, ...settings.kernel]);
      const bias = b.bias && context.reader.read(`${prefix}convs.${i}.bias`, [outs.length]);
      outs.forEach((o, n) => {
        weights[o] = weight?.subarray(n * fanIn * area, (n + 1) * fanIn * area);
        if (bias) biases[o] = bias[n];
      });
    });
    if (b.table.flat().some((map) => !(map >= 0 && map < shape[0]))) {
      throw new PageError(`The table of block ${context.label} names a map that its input does not have.`);
    }
    const count = b.table.flat().length * area;
    const details = { settings, table: b.table, weights, biases };
    Object.assign(details, { params: count + (b.bias ? outShape[0] : 0), macs: count * outShape[1] * outShape[2] });
    return withNormAndActivation([new TableConvolution("convolution", shape, outShape, details)], b, context);
  },

  MaxPool: (b, shape, context) => [slidingPool(Pooling, "max pooling", b, shape, context, { isMax: true })],
  AvgPool: (b, shape, context) => [slidingPool(Pooling, "average pooling", b, shape, context, { isMax: false })],
  AdaptiveAvgPool: (b, shape, context) => [adaptivePool(b, shape, context, false)],
  AdaptiveMaxPool: (b, shape, context) => [adaptivePool(b, shape, context, true)],

  Subsample(b, shape, context) {
    const s = { ...b, stride: b.kernel_size, padding: 0, ceil_mode: false };
    const pool = slidingPool(Subsampling, "subsampling", s, shape, context, { isMax: false }, (prefix) => ({
      weight: context.reader.read(`${prefix}weight`, [shape[0], 1, 1]),
      bias: context.reader.read(`${prefix}bias`, [shape[0], 1, 1]),
      params: 2 * shape[0],
    }));
    return withNormAndActivation([pool], b, context);
  },

  UnitBias(b, shape, context) {
    const bias = context.reader.read(`${context.nextModule()}bias`, shape);
    return withNormAndActivation([new UnitBiases("bias", shape, shape, { bias, params: product(shape) })], b, context);
  },

  Pad(b, [channels, ...sides], context) {
    const shape = requireMaps([channels, ...sides], context);
    context.nextModule();
    const { size, value } = b;
    return [new Border("border", shape, [channels, ...sides.map((side) => side + 2 * size)], { size, value })];
  },

  Dense(b, shape, context) {
    if (shape.length !== 1) throw new PageError(`Block ${context.label} needs a vector, and gets maps (${shape.join(", ")}).`);
    return withNormAndActivation([denseLayer(b.out_features, shape, b, context)], b, context);
  },

  Logits(b, shape, context) {
    if (shape.length === 1) return [denseLayer(b.num_classes, shape, b, context)];
    const conv = { ...b, out_channels: b.num_classes, kernel_size: 1, stride: 1, padding: 0, dilation: 1, groups: 1 };
    return BUILDERS.Conv({ ...conv, norm: null, activation: null }, shape, context);
  },

  RBF(b, shape, context) {
    context.nextModule();
    const codes = b.codes.map((code) => Float32Array.from(code, (sign) => (sign === "+" ? 1 : -1)));
    if (shape.length !== 1 || codes[0].length !== shape[0]) {
      throw new PageError(`Block ${context.label} has codes of length ${codes[0].length}, and gets (${shape.join(", ")}).`);
    }
    return [new RadialBasis("radial basis", shape, [codes.length], { codes, macs: codes.length * shape[0] })];
  },

  Flatten(b, shape, context) {
    context.nextModule();
    return [new Flatten("flatten", shape, [product(shape)])];
  },

  Dropout(b, shape, context) {
    context.nextModule();
    return [new Elementwise("dropout", shape, shape)];
  },

  Activation: (b, shape, context) => [activation(b.activation, shape, context)],
  Norm: (b, shape, context) => withNormAndActivation([], b, context, requireMaps(shape, context)),

  LRN(b, shape, context) {
    requireMaps(shape, context);
    context.nextModule();
    const alpha = b.mean ? b.alpha / b.size : b.alpha;
    const settings = { size: b.size, alpha, beta: b.beta, k: b.k };
    return [new LocalNorm("local response normalization", shape, shape, { settings })];
  },

  Parallel(b, shape, context) {
    const module = context.nextModule();
    const paths = b.paths.map((path, i) =>
      buildBlocks(path, shape, `${context.label}/`, `${module}${i}`, context.reader, context.depth + 1),
    );
    const shapes = paths.map((path) => path.at(-1)?.outShape ?? shape);
    const sizes = b.merge === "add" ? shapes : shapes.map(([, ...size]) => size);
    if (new Set(sizes.map(String)).size > 1) {
      throw new PageError(`The paths of block ${context.label} have outputs that cannot be merged: ${shapes.map((s) => `(${s})`).join(", ")}.`);
    }
    const channels = b.merge === "add" ? shapes[0][0] : shapes.reduce((sum, [c]) => sum + c, 0);
    const sum = (name) => paths.flat().reduce((total, block) => total + block[name], 0);
    const details = { paths, merge: b.merge, params: sum("params"), macs: sum("macs") };
    const branches = new Branches("parallel paths", shape, [channels, ...shapes[0].slice(1)], details);
    return b.activation ? [branches, activation(b.activation, branches.outShape, context)] : [branches];
  },
};

function requireMaps(shape, { label }) {
  if (shape.length !== 3) throw new PageError(`Block ${label} needs maps, and gets a vector of ${shape[0]} values.`);
  return shape;
}

function slidingSettings(b) {
  const names = { kernel: "kernel_size", stride: "stride", padding: "padding", dilation: "dilation" };
  const settings = Object.fromEntries(Object.entries(names).map(([name, field]) => [name, pair(b[field] ?? 1)]));
  return { ...settings, groups: b.groups ?? 1 };
}

function slidingSize([, height, width], s, ceilMode = false) {
  return [height, width].map((size, i) => windowCount(size, s.kernel[i], s.stride[i], s.padding[i], s.dilation[i], ceilMode));
}

function slidingPool(kind, name, b, shape, context, details, weights = () => ({})) {
  requireMaps(shape, context);
  const settings = slidingSettings({ ...b, stride: b.stride ?? b.kernel_size });
  const outShape = [shape[0], ...slidingSize(shape, settings, b.ceil_mode)];
  return new kind(name, shape, outShape, { settings, ceilMode: b.ceil_mode, ...details, ...weights(context.nextModule()) });
}

function adaptivePool(b, shape, context, isMax) {
  requireMaps(shape, context);
  context.nextModule();
  const name = isMax ? "adaptive max pooling" : "adaptive average pooling";
  return new AdaptivePooling(name, shape, [shape[0], ...pair(b.output_size)], { isMax });
}

function weighted(kind, name, shape, outShape, weightShape, hasBias, { reader, nextModule }, details) {
  const prefix = nextModule();
  return new kind(name, shape, outShape, {
    weight: reader.read(`${prefix}weight`, weightShape),
    bias: hasBias ? reader.read(`${prefix}bias`, [outShape[0]]) : null,
    hasBias,
    params: product(weightShape) + (hasBias ? outShape[0] : 0),
    ...details,
  });
}

function denseLayer(units, shape, b, context) {
  const details = { macs: units * shape[0] };
  return weighted(FullyConnected, "fully connected", shape, [units], [units, shape[0]], b.bias, context, details);
}

function withNormAndActivation(operations, b, context, shape = operations.at(-1).outShape) {
  const result = [...operations];
  if (b.norm) result.push(normalization(b.norm, shape, context));
  if (b.activation) result.push(activation(b.activation, shape, context));
  return result;
}

function activation(name, shape, { label, nextModule }) {
  if (!Object.hasOwn(ACTIVATIONS, name)) throw new PageError(`Block ${label} has the activation ${name}, which this page does not know.`);
  nextModule();
  return new Elementwise("activation", shape, shape, { apply: (v) => ACTIVATIONS[name](v), name });
}

/** A normalization by its text in a Spec: a name, and after a colon a number (eps, or groups). */
function normalization(text, shape, { label, nextModule, reader }) {
  const [name, number] = text.split(":");
  if (!["batch", "instance", "group", "layer"].includes(name)) {
    throw new PageError(`Block ${label} has the norm ${name}, which this page does not know.`);
  }
  const prefix = nextModule();
  const [channels] = shape;
  const groups = { batch: 0, instance: channels, group: commonDivisor(Number(number ?? 32), channels), layer: 1 }[name];
  const read = (tensor) => reader.read(prefix + tensor, [channels]);
  const statistics = name === "batch" ? { mean: read("running_mean"), variance: read("running_var") } : {};
  const eps = name !== "group" && number !== undefined ? Number(number) : 1e-5;
  const details = { name, eps, groups, params: 2 * channels, weight: read("weight"), bias: read("bias"), ...statistics };
  return new Normalization("normalization", shape, shape, details);
}

function commonDivisor(a, b) {
  return b ? commonDivisor(b, a % b) : a;
}
