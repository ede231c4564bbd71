// A network: the Spec of a file as a list of blocks that run.
"use strict";

const MAX_MACS = 4e9; // about ten seconds
const MAX_DEPTH = 16; // of nested blocks

/** One block of a Spec: its label, its settings with defaults, its operations and its shapes. */
class Block {
  constructor(label, spec, operations) {
    Object.assign(this, { label, spec, operations, kind: spec.block });
    this.inShape = operations[0].inShape;
    this.outShape = operations.at(-1).outShape;
    this.params = operations.reduce((sum, operation) => sum + operation.params, 0);
    this.macs = operations.reduce((sum, operation) => sum + operation.macs, 0);
    this.paths = operations[0].paths ?? [];
  }

  /** Returns the output; `visit(label, output)` is called for this block and those inside, and may replace it. */
  run(x, visit) {
    return visit(this.label, this.operations.reduce((value, operation) => operation.run(value, visit), x));
  }

  /** Returns the input and output of each operation. */
  trace(x) {
    const values = [x];
    for (const operation of this.operations) values.push(operation.run(values.at(-1), (_, out) => out));
    return values;
  }

  source(region) {
    return this.operations.reduceRight((inner, operation) => operation.source(inner), region);
  }

  /** Returns the block as a line of code. */
  get code() {
    const text = (value) => {
      if (Array.isArray(value)) return value.length > 4 ? `<${value.length} items>` : `(${value.map(text).join(", ")})`;
      if (value === null) return "None";
      return typeof value === "boolean" ? (value ? "True" : "False") : JSON.stringify(value);
    };
    const tuple = (items) => `(${items.join(", ")}${items.length === 1 ? "," : ""})`;
    const { names } = FIELDS[this.kind];
    const words = names.filter((name) => name in this.spec).map((name) => {
      const value = name === "paths" ? tuple(this.paths.map((path) => tuple(path.map((block) => block.code)))) : text(this.spec[name]);
      return name === names[0] ? value : `${name}=${value}`;
    });
    return `${this.kind}(${words.join(", ")})`;
  }
}

function runBlocks(blocks, x, visit) {
  return blocks.reduce((value, block) => block.run(value, visit), x);
}

class Network {
  /**
   * @param {object} description what CNN.describe() returns; without weights only `cnnzoo.spec` is needed
   * @param {Map | null} tensors the tensors of the file; null for a network without weights
   */
  constructor(description, tensors) {
    const spec = description.cnnzoo.spec;
    this.name = spec.name;
    this.input = spec.input;
    this.description = description;
    this.tensors = tensors;
    const reader = new TensorReader(tensors);
    const features = buildBlocks(spec.features, spec.input, "", "features", reader, 0);
    const classifier = buildBlocks(spec.classifier, features.at(-1)?.outShape ?? spec.input, "", "classifier", reader, 0);
    this.blocks = [...features, ...classifier];
    if (!this.blocks.length) throw new PageError(`The network ${spec.name} has no blocks.`);
    this.params = this.blocks.reduce((sum, block) => sum + block.params, 0);
    this.macs = this.blocks.reduce((sum, block) => sum + block.macs, 0);
    this.outShape = this.blocks.at(-1).outShape;
    const labels = description.label_names;
    this.labels = labels?.length === this.outShape[0] ? labels : Array.from({ length: this.outShape[0] }, (_, i) => `class ${i}`);
  }

  /** Reads a weights file that cnnzoo wrote. */
  static read(file) {
    const { description, tensors } = readSafetensors(file);
    const network = new Network(description, tensors);
    if (network.macs > MAX_MACS) {
      throw new PageError(`This network needs ${network.macs.toLocaleString("en")} multiply-adds for an image, too many for this page.`);
    }
    if (network.outShape.length !== 1) {
      throw new PageError(`This network ends with maps (${network.outShape.join(", ")}), not with one score for each class.`);
    }
    return network;
  }

  /**
   * Runs the network on a prepared input, float32 (C * H * W,).
   * @param {Map<string, Set<number>>} off the maps of each block that are set to zero
   * @returns {{logits: number[], outputs: Map<string, Float32Array>}}
   */
  run(x, off = new Map()) {
    const size = this.input.reduce((a, b) => a * b);
    if (x.length !== size) throw new PageError(`The input has ${x.length} values, and ${this.name} takes ${size}.`);
    const outputs = new Map();
    const visit = (label, out) => {
      const result = withoutMaps(out, this.find(label)?.outShape, off.get(label));
      outputs.set(label, result);
      return result;
    };
    const logits = runBlocks(this.blocks, Float32Array.from(x), visit);
    return { logits: Array.from(logits), outputs };
  }

  /** Returns all blocks, also those inside others. */
  *all(blocks = this.blocks) {
    for (const block of blocks) {
      yield block;
      for (const path of block.paths) yield* this.all(path);
    }
  }

  find(label) {
    this.byLabel ??= new Map([...this.all()].map((block) => [block.label, block]));
    return this.byLabel.get(label);
  }

  /** Returns the blocks that a block's output depends on, in order, and the block itself: those of other paths left out. */
  lineage(label, blocks = this.blocks) {
    const i = blocks.findIndex((block) => block.label === label || label.startsWith(`${block.label}/`));
    if (blocks[i].label === label) return blocks.slice(0, i + 1);
    const inside = blocks[i].paths.find((path) => path.some((block) => block.label === label || label.startsWith(`${block.label}/`)));
    return [...blocks.slice(0, i), ...this.lineage(label, inside)];
  }

  /**
   * Returns what a region of a block's output depends on, in the image and in each block before.
   * @returns {Map<string, Region>} by label; "" is the image
   */
  receptiveField(label, region) {
    const regions = new Map();
    const lineage = this.lineage(label);
    for (let i = lineage.length - 1; i >= 0; i--) {
      region = lineage[i].source(region);
      regions.set(lineage[i - 1]?.label ?? "", region);
    }
    return regions;
  }

  /** Returns the side lengths of the receptive field of a unit in the middle of a block, padding included. */
  fieldSize(block) {
    const [y, x] = [1, 2].map((i) => Math.floor((block.outShape[i] ?? 1) / 2));
    const maps = this.lineage(block.label).findLast(({ outShape }) => outShape.length === 3)?.outShape ?? this.input;
    const isFlat = block.outShape.length === 1 && product(maps) === block.outShape[0]; // one place of flattened maps
    const c = isFlat ? Array.from({ length: maps[0] }, (_, i) => i * maps[1] * maps[2]) : null;
    const region = this.receptiveField(block.label, { c, y: [y, y], x: [x, x] }).get("");
    return [region.y[1] - region.y[0] + 1, region.x[1] - region.x[0] + 1];
  }

  /** Returns the same network with other tensors. */
  withTensors(tensors) {
    return new Network(this.description, tensors);
  }
}

function withoutMaps(out, shape, off) {
  if (!off?.size) return out;
  const result = out.slice();
  const area = out.length / shape[0];
  for (const c of off) result.fill(0, c * area, (c + 1) * area);
  return result;
}

/** Hands out the tensors of a file by name, and counts the modules of a section, which the names contain. */
class TensorReader {
  constructor(tensors) {
    this.tensors = tensors;
  }

  /** Returns a tensor's values; null for a network without weights. */
  read(name, shape) {
    if (!this.tensors) return null;
    const tensor = this.tensors.get(name);
    if (!tensor) throw new PageError(`The file has no tensor ${name}, which its network needs.`);
    if (tensor.shape.join() !== shape.join()) {
      throw new PageError(`Tensor ${name} has the shape (${tensor.shape.join(", ")}), and the network needs (${shape.join(", ")}).`);
    }
    return tensorValues(tensor);
  }
}

/**
 * Builds blocks in sequence.
 * @param {object[]} specs the blocks of a Spec, as in JSON
 * @param {string} place names of the blocks around them, "inception3a/"
 * @param {string} module name of their torch module, "features"
 */
function buildBlocks(specs, shape, place, module, reader, depth) {
  if (!Array.isArray(specs)) throw new PageError("The network of this file is damaged: its blocks are not a list.");
  if (depth > MAX_DEPTH) throw new PageError(`Its blocks are nested more than ${MAX_DEPTH} deep.`);
  let number = 0;
  const blocks = [];
  for (const spec of specs) {
    const label = place + (spec?.label ?? "");
    const defaults = Object.hasOwn(FIELDS, spec?.block) ? FIELDS[spec.block].defaults : null;
    if (!defaults) throw new PageError(`Block ${label} is a ${spec?.block}, a kind that this page does not know.`);
    const context = { label, reader, depth, nextModule: () => `${module}.${number++}.` };
    const operations = BUILDERS[spec.block]({ ...defaults, ...spec }, shape, context);
    for (const { outShape } of operations) {
      if (!outShape.every((side) => Number.isInteger(side) && side > 0)) {
        throw new PageError(`Block ${label} cannot take an input of (${shape.join(", ")}): its output would be empty.`);
      }
      if (outShape.reduce((a, b) => a * b) > 2 ** 26) throw new PageError(`Block ${label} has an output too large for this page.`);
    }
    blocks.push(new Block(label, spec, operations));
    shape = blocks.at(-1).outShape;
  }
  return blocks;
}
