// What blocks do, in plain words, and their numbers as formulas.
"use strict";

const ACTIVATION_WORDS = {
  relu: "negative numbers become 0, others stay",
  relu6: "negative numbers become 0, numbers above 6 become 6",
  leaky_relu: "negative numbers shrink to a hundredth, others stay",
  elu: "negative numbers bend towards \u22121, others stay",
  gelu: "small and negative numbers fade out, large ones stay",
  silu: "small and negative numbers fade out, large ones stay",
  hardswish: "numbers below \u22123 become 0, numbers above 3 stay",
  sigmoid: "every number is squeezed between 0 and 1",
  tanh: "every number is squeezed between \u22121 and 1",
  scaled_tanh: "every number is squeezed between \u22121.7159 and 1.7159",
};

const WORDS = {
  convolution: [
    "A convolution looks for a pattern. It slides a small window over the maps before it. At each place it multiplies every number in the window by a number of its kernel, and adds up the products. A large sum means: the pattern is here.",
    "A kernel is a small table of numbers that were learned in training. Each kernel makes one new map.",
  ],
  "max pooling": ["Max pooling keeps the largest number of each window. The maps become smaller, and it matters less where exactly a pattern was."],
  "average pooling": ["Average pooling replaces each window by its mean. The maps become smaller and coarser."],
  "adaptive max pooling": ["The map is divided into a fixed number of windows. The largest number of each is kept."],
  "adaptive average pooling": ["The map is divided into a fixed number of windows. Each is replaced by its mean."],
  subsampling: ["Pooling that learns, as in 1998: each window is added up, multiplied by one number of the map, and moved by another one, the bias."],
  bias: ["Each unit adds a number of its own, its bias, that was learned in training."],
  border: ["A border of one number is put around each map, so that windows can reach over its edge."],
  flatten: ["The maps are written in one long row. No number changes."],
  "fully connected": ["Each unit looks at all numbers before it. It multiplies each by a weight of its own, and adds up the products. It weighs all the evidence."],
  "radial basis": ["Each class has a code, a fixed row of +1 and \u22121. The closer the numbers are to the code, the higher is the score."],
  "local response normalization": ["Neighbors compete: each number is divided by a sum over neighboring maps at the same place. A unit next to strong ones becomes weaker."],
  normalization: ["The numbers are brought to a common range: a mean is subtracted, and the rest is divided by the usual distance from it."],
  dropout: ["In training, random numbers are set to zero here, so that no unit relies on a single other one. Now nothing changes."],
  activation: ["Each number is bent by a curve. Without such curves, many blocks could do no more than one."],
  "parallel paths": ["Several paths work on the same maps side by side."],
};

const mainOperation = (block) => block.operations[0];

/** Returns what a block does, as paragraphs. */
function explain(block) {
  const texts = [...WORDS[mainOperation(block).kind]];
  if (block.kind === "Parallel") {
    texts.push(block.spec.merge === "add" ? "Their results are added, number by number." : "Their maps are put together.");
  }
  if (block === active().network.blocks.at(-1)) texts.push("The last block gives one number for each class: its score.");
  for (const operation of block.operations) {
    if (operation.kind === "activation") texts.push(`Then comes ${operation.name}: ${ACTIVATION_WORDS[operation.name]}.`);
    else if (operation !== mainOperation(block)) texts.push(...WORDS[operation.kind]);
  }
  return texts;
}

/** Returns a block in a few words, for its row. */
function subtitle(block) {
  const operation = mainOperation(block);
  const window = operation.settings?.kernel ? ` ${operation.settings.kernel.join("\u00a0\u00d7\u00a0")}` : "";
  const words = operation.kind === "activation" ? operation.name : operation.kind;
  const activations = block.operations.slice(1).map((one) => (one.kind === "activation" ? one.name : one.kind));
  return [words + window, ...activations].join(", ");
}

/** Returns rows [name, formula, result] for a block. */
function formulas(block) {
  const network = active().network;
  const rows = [];
  const operation = mainOperation(block);
  const { settings, inShape, outShape } = operation;
  if (settings?.kernel) {
    for (const side of operation.outShape[1] === operation.outShape[2] && isSquare(settings, inShape) ? [0] : [0, 1]) {
      rows.push([["size of a map", "width"][side], sizeFormula(operation, side), count(outShape[side + 1])]);
    }
  }
  rows.push(["numbers", outShape.join(" \u00d7 "), count(product(block.outShape))]);
  const others = block.params - operation.params; // of a norm
  if (block.params) rows.push(["parameters", paramsFormula(operation) + (others ? ` + ${count(others)} of the norm` : ""), count(block.params)]);
  if (block.macs) rows.push(["multiply-adds", macsFormula(operation), count(block.macs)]);
  if (block.params) rows.push(["share of all parameters", "", percent(block.params / network.params)]);
  if (block.macs) rows.push(["share of all multiply-adds", "", percent(block.macs / network.macs)]);
  const field = network.fieldSize(block);
  rows.push(["receptive field", "what one number depends on", `${field.map(count).join(" \u00d7 ")} px`]);
  return rows;
}

function isSquare({ kernel, stride, padding, dilation }, [, height, width]) {
  return height === width && [kernel, stride, padding, dilation].every(([a, b]) => a === b);
}

function sizeFormula({ settings: { kernel, stride, padding, dilation }, inShape, ceilMode }, side) {
  const span = dilation[side] > 1 ? `(${dilation[side]} \u00b7 (${kernel[side]} \u2212 1) + 1)` : kernel[side];
  const padded = padding[side] ? ` + 2 \u00b7 ${padding[side]}` : "";
  const [open, close] = ceilMode ? ["\u2308", "\u2309"] : ["\u230a", "\u230b"];
  return `${open}(${inShape[side + 1]}${padded} \u2212 ${span}) / ${stride[side]}${close} + 1`;
}

function paramsFormula(operation) {
  const { kind, settings, inShape, outShape, hasBias, table } = operation;
  const bias = hasBias ? " + 1" : "";
  if (table) return `${count(table.flat().length)} kernels \u00d7 ${settings.kernel.join(" \u00d7 ")} + ${outShape[0]} biases`;
  if (kind === "convolution") return `${outShape[0]} kernels \u00d7 (${[inShape[0] / settings.groups, ...settings.kernel].join(" \u00d7 ")}${bias})`;
  if (kind === "fully connected") return `${count(outShape[0])} units \u00d7 (${count(inShape[0])}${bias})`;
  if (kind === "subsampling") return `${outShape[0]} maps \u00d7 2`;
  if (kind === "bias") return "one for each unit";
  return kind === "normalization" ? `${outShape[0]} maps \u00d7 2` : "";
}

function macsFormula({ kind, settings, inShape, outShape, table }) {
  const places = outShape.slice(1).join(" \u00d7 ");
  if (table) return `${places} places \u00d7 ${count(table.flat().length)} \u00d7 ${settings.kernel.join(" \u00d7 ")}`;
  if (kind === "convolution") return `${places} places \u00d7 ${outShape[0]} kernels \u00d7 ${[inShape[0] / settings.groups, ...settings.kernel].join(" \u00d7 ")}`;
  return kind === "fully connected" || kind === "radial basis" ? `${count(outShape[0])} units \u00d7 ${count(inShape[0])}` : "";
}
