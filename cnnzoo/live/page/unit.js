// One unit, number by number: its window, its kernel, the products, the sum, the bias, the activation.
"use strict";

const MAX_TERMS = 6; // of a sum over many inputs that are written out

/** Returns elements that show how a unit gets its value; none before the network has run. */
function explainUnit(block, { c, y, x }) {
  const network = active().network;
  const { result } = active();
  const place = block.outShape.length === 3 ? `Map ${c}, row ${y}, column ${x}` : `Unit ${c}`;
  const field = app.regions.get("");
  const [rows, columns] = [field.y, field.x].map(([first, last]) => last - first + 1);
  const [, height, width] = network.input;
  const isWhole = field.y[0] <= 0 && field.x[0] <= 0 && field.y[1] >= height - 1 && field.x[1] >= width - 1;
  const part = isWhole ? "the whole picture" : `${rows} \u00d7 ${columns} px of the picture`;
  const sees = h("p", {}, `It depends on ${part}, as the frames show.`);
  if (!result) return [h("h3", {}, place), sees];
  const value = result.outputs.get(block.label)[indexOf(block.outShape, { c, y, x })];
  const heading = h("h3", {}, `${place}: `, h("b", {}, number(value)));
  if (block.kind === "Parallel") return [heading, sees, h("p", {}, "Open the paths below this block to see where it comes from.")];
  const before = network.lineage(block.label).at(-2);
  const input = before ? result.outputs.get(before.label) : result.input;
  result.traces ??= new Map(); // computed once for a picture
  if (!result.traces.has(block)) result.traces.set(block, block.trace(input));
  const values = result.traces.get(block);
  const at = (i) => values[i + 1][indexOf(block.operations[i].outShape, { c, y, x })];
  const steps = [];
  block.operations.forEach((operation, i) => {
    if (i === 0) steps.push(...firstStep(operation, input, { c, y, x }, at(0)));
    else if (operation.kind === "activation") steps.push(step(`${operation.name}(${number(at(i - 1))})`, at(i), ACTIVATION_WORDS[operation.name]));
    else steps.push(step(`${operation.name} norm of ${number(at(i - 1))}`, at(i)));
  });
  if (active().off.get(block.label)?.has(c)) steps.push(step("switched off", value));
  return [heading, sees, ...steps];
}

/** Returns the position of a unit among the values of a block. */
function indexOf([, height = 1, width = 1], { c, y, x }) {
  return (c * height + y) * width + x;
}

function step(text, value, title) {
  return h("p", { class: "step", title }, h("span", {}, text), h("b", {}, `= ${number(value)}`));
}

function firstStep(operation, input, unit, value) {
  if (operation.kernels) return convolutionStep(operation, input, unit, value);
  if (operation instanceof Sliding || operation instanceof AdaptivePooling) return poolingStep(operation, input, unit, value);
  if (operation.weightsOf) return sumStep(operation, input, unit, value);
  if (operation.kind === "border") {
    const [y, x] = [unit.y - operation.size, unit.x - operation.size];
    const isInside = y >= 0 && x >= 0 && y < operation.inShape[1] && x < operation.inShape[2];
    return [h("p", {}, isInside ? `It is row ${y}, column ${x} of the map before.` : "It is part of the border.")];
  }
  const { c } = unit;
  const [, height = 1, width = 1] = operation.inShape;
  const same = input[operation instanceof Flatten ? c : indexOf(operation.inShape, unit)];
  if (operation.kind === "activation") return [step(`${operation.name}(${number(same)})`, value, ACTIVATION_WORDS[operation.name])];
  if (operation.kind === "flatten") {
    const [map, rest] = [Math.floor(c / (height * width)), c % (height * width)];
    return [h("p", {}, `It is row ${Math.floor(rest / width)}, column ${rest % width} of map ${map}.`)];
  }
  if (operation.kind === "bias") return [step(`${number(same)}, plus the bias ${number(value - same)}`, value)];
  return [step(`${operation.kind} of ${number(same)}`, value)];
}

/** Returns the values of a map in a window; outside the map, a padding value. */
function windowValues(input, [, height, width], map, [top, left], [rows, columns], [dy, dx], outside = 0) {
  const values = new Float32Array(rows * columns);
  for (let i = 0; i < values.length; i++) {
    const [y, x] = [top + Math.floor(i / columns) * dy, left + (i % columns) * dx];
    values[i] = y >= 0 && x >= 0 && y < height && x < width ? input[(map * height + y) * width + x] : outside;
  }
  return values;
}

function convolutionStep(operation, input, { c, y, x }, value) {
  const { kernel, stride, padding, dilation } = operation.settings;
  const corner = [y * stride[0] - padding[0], x * stride[1] - padding[1]];
  const parts = operation.kernels(c).map(({ map, weights }) => {
    const patch = windowValues(input, operation.inShape, map, corner, kernel, dilation);
    return { map, weights, patch, sum: patch.reduce((sum, v, i) => sum + v * weights[i], 0) };
  });
  parts.sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum));
  const chosen = parts.find(({ map }) => map === app.inputMap) ?? parts[0];
  const elements = [];
  if (parts.length > 1) {
    const choose = (map) => () => ((app.inputMap = map), notify("unit"));
    const chips = parts.slice(0, 16).map(({ map, sum }) =>
      h("button", { type: "button", class: "chip", "aria-pressed": String(map === chosen.map), click: choose(map) }, `map ${map}: ${number(sum, 2)}`),
    );
    elements.push(h("p", {}, `It adds up the products of one window in each of ${parts.length} maps. Choose a map; its part of the sum stands behind it:`), h("div", { class: "chips" }, chips));
  }
  const products = chosen.patch.map((v, i) => v * chosen.weights[i]);
  elements.push(
    h("div", { class: "tables" },
      numberTable("window", chosen.patch, kernel[1]),
      h("span", { class: "sign" }, "\u00d7"),
      numberTable("kernel", chosen.weights, kernel[1]),
      h("span", { class: "break" }),
      h("span", { class: "sign" }, "="),
      numberTable("products", products, kernel[1])),
    step(parts.length > 1 ? `sum of the products of map ${chosen.map}` : "sum of the products", chosen.sum),
  );
  if (parts.length > 1) elements.push(step(`sum over all ${parts.length} maps`, parts.reduce((sum, part) => sum + part.sum, 0)));
  const bias = operation.biasOf(c);
  if (bias) elements.push(step(`plus the bias of map ${c}, ${number(bias)}`, value));
  return elements;
}

function poolingStep(operation, input, { c, y, x }, value) {
  const region = operation.source({ c: [c], y: [y, y], x: [x, x] });
  const size = [region.y[1] - region.y[0] + 1, region.x[1] - region.x[0] + 1];
  const patch = windowValues(input, operation.inShape, c, [region.y[0], region.x[0]], size, [1, 1], operation.isMax ? -Infinity : 0);
  const table = h("div", { class: "tables" }, numberTable("window", patch, size[1], operation.isMax ? value : null));
  if (operation.kind !== "subsampling") return [table, step(operation.isMax ? "the largest" : "their mean", value)];
  const sum = patch.reduce((a, b) => a + b, 0);
  return [table, step("their sum", sum), step(`times ${number(operation.weight[c])}, plus ${number(operation.bias[c])}`, value)];
}

/** A sum over all inputs: the terms with the largest effect. */
function sumStep(operation, input, { c }, value) {
  const weights = operation.weightsOf(c);
  if (operation.kind === "radial basis") return [step("minus half the squared distance to the code", value)];
  const order = Array.from(weights, (_, i) => i).sort((a, b) => Math.abs(weights[b] * input[b]) - Math.abs(weights[a] * input[a]));
  const terms = order.slice(0, MAX_TERMS).map((i) => step(`unit ${i}: ${number(input[i])} \u00d7 ${number(weights[i])}`, input[i] * weights[i]));
  const rest = order.slice(MAX_TERMS).reduce((sum, i) => sum + weights[i] * input[i], 0);
  const bias = operation.biasOf(c);
  const note = h("p", {}, `It adds up ${count(weights.length)} products, number \u00d7 weight. The strongest:`);
  const others = order.length > MAX_TERMS ? [step(`the other ${count(order.length - MAX_TERMS)}`, rest)] : [];
  return [note, ...terms, ...others, step(bias ? `all together, plus the bias ${number(bias)}` : "all together", value)];
}

/** Returns a table of numbers, each on the color of its value; of a large window only the colors. */
function numberTable(name, values, columns, marked = null) {
  const scale = scaleOf(Array.from(values).filter(Number.isFinite).concat(0));
  const colors = palette();
  const large = columns > 7;
  const cells = Array.from(values, (value) => {
    const rgb = Number.isFinite(value) ? colorOf(scale.of(value), colors) : colors.zero;
    const text = large ? "" : Number.isFinite(value) ? short(value) : "";
    const style = `background:rgb(${rgb});color:${textOn(rgb)}`;
    return h("span", { style, title: number(value), class: marked !== null && value === marked ? "marked" : null }, text);
  });
  const grid = h("div", { class: large ? "numbers large" : "numbers", style: `--columns:${columns}` }, cells);
  return h("figure", {}, grid, h("figcaption", {}, name));
}
