// The inspector: what a block does, one of its units number by number, its kernels, its formulas, its line of code.
"use strict";

function buildInspector() {
  const panel = h("aside", { id: "inspector", "aria-label": "Inspector", tabindex: -1 });
  const close = h("button", { type: "button", class: "close", "aria-label": "Close the inspector", click: () => (setUnit(null), select(null)) }, "\u00d7");
  const unit = h("div", { class: "unit" });
  const drawUnit = () => {
    const block = app.selected && active().network.find(app.selected);
    const isHere = block && app.unit?.label === app.selected;
    const buttons = () => !hasWeights() ? "" : h("div", { class: "row" }, block.outShape.length === 3 ? slideButton(block) : null, mapSwitch(block));
    unit.replaceChildren(...(isHere ? [...explainUnit(block, app.unit), buttons()] : [hint(block)]));
  };
  const draw = () => {
    const block = app.selected && active().network.find(app.selected);
    panel.classList.toggle("open", Boolean(block));
    if (!block) return panel.replaceChildren(...welcome());
    drawUnit();
    const texts = explain(block).map((text) => h("p", {}, text));
    const heading = h("h2", {}, block.label, h("small", {}, mainOperation(block).kind));
    const code = [h("h3", {}, "As a line of code"), h("pre", { tabindex: 0 }, block.code)];
    const about = h("div", {}, ...texts, ...kernelsOf(block), formulaTable(block), ...code);
    panel.replaceChildren(close, heading, unit, about);
  };
  on("selection networks", draw);
  on("unit result", () => app.selected && drawUnit());
  document.addEventListener("keydown", (event) => event.key === "Escape" && (app.unit ? setUnit(null) : select(null)));
  return panel;
}

const hasWeights = () => Boolean(active().network.tensors);

/** Returns what the inspector shows before a block is chosen. */
function welcome() {
  const steps = hasWeights()
    ? ["Draw on the pad, or choose a test image. All maps change at once.",
       "A map is a picture of numbers: where in the image a block has found its pattern.",
       "Point at a square of a map. Frames show which part of each earlier map, and of the image, it depends on.",
       "Click to keep the square, and see its number computed step by step."]
    : ["Each row is a block. Its maps have the sizes that are drawn.",
       "Point at a square of a map. Frames show which part of each earlier map, and of the image, it depends on."];
  return [h("h2", {}, "How to read this page"), h("ol", {}, [...steps, "Click the name of a block to read what it does, and what it costs."].map((text) => h("li", {}, text)))];
}

function hint(block) {
  if (!hasWeights() || !block) return "";
  return h("p", { class: "hint" }, `Point at a square in the maps of ${block.label} to see its number computed. A click keeps it.`);
}

/** Returns the button that moves the unit over its whole map, as the window slides over the maps before. */
function slideButton(block) {
  const step = () => {
    const { label, c, y, x } = app.unit ?? {};
    if (label !== block.label) return stopSliding();
    const [, height, width] = block.outShape;
    const next = (y * width + x + 1) % (height * width);
    setUnit({ label, c, y: Math.floor(next / width), x: next % width }, true);
    app.sliding = setTimeout(step, 120);
  };
  const click = () => {
    if (app.sliding) stopSliding();
    else step();
  };
  return h("button", { type: "button", class: "slide", click }, app.sliding ? "Stop" : "Slide the window");
}

function stopSliding() {
  clearTimeout(app.sliding);
  app.sliding = 0;
  notify("unit");
}

/** Returns the button that switches the map of the chosen unit off. */
function mapSwitch(block) {
  const { c } = app.unit;
  const isOff = active().off.get(block.label)?.has(c) ?? false;
  const what = block.outShape.length === 3 ? `map ${c}` : `unit ${c}`;
  const click = () => toggleMap(active(), block.label, c);
  const text = isOff ? `Switch ${what} on again` : `Switch ${what} off`;
  return h("button", { type: "button", class: "switch", "aria-pressed": String(isOff), click, title: "Sets all its numbers to zero, and shows how the answer changes" }, text);
}

// --- kernels ---

const MAX_KERNELS = 256;

/** Returns the kernels of a block as pictures: one row per map, or the weights of the chosen unit. */
function kernelsOf(block) {
  const operation = mainOperation(block);
  if (!hasWeights() || !(operation.kernels || operation.weightsOf)) return [];
  if (!operation.kernels) return denseWeights(block, operation);
  const [rows, columns] = operation.settings.kernel;
  const outs = Array.from({ length: operation.outShape[0] }, (_, o) => o);
  const perMap = operation.kernels(0).length;
  const pictures = perMap === 1 || outs.length * perMap <= MAX_KERNELS ? outs.flatMap((o) => operation.kernels(o)) : operation.kernels(app.unit?.c ?? 0);
  if (rows * columns === 1) return [];
  const shown = pictures.slice(0, MAX_KERNELS).map(({ weights }) => weights);
  const inputs = perMap > 1 ? ` One line of ${perMap} is one map: one kernel for each map before it.` : "";
  const text = pictures.length < outs.length * perMap ? `The ${perMap} kernels of one map.` : `${count(pictures.length)} kernels.${inputs}`;
  return [h("h3", {}, "Kernels"), h("p", {}, text), weightCanvas(shown, rows, columns, perMap > 1 ? perMap : 0)];
}

/** Returns the weights of some units as pictures of the maps that they look at. */
function denseWeights(block, operation) {
  const before = active().network.lineage(block.label);
  const maps = before.at(-2)?.kind === "Flatten" ? before.at(-2).inShape : null;
  const unit = app.unit?.label === block.label ? app.unit.c : 0;
  const weights = operation.weightsOf(unit);
  if (maps?.length === 3 && maps[0] <= MAX_KERNELS && maps[1] > 1) {
    const area = maps[1] * maps[2];
    const pictures = Array.from({ length: maps[0] }, (_, c) => weights.subarray(c * area, (c + 1) * area));
    return [h("h3", {}, `What unit ${unit} looks for`), h("p", {}, "Its weights, as pictures of the maps that they belong to."), weightCanvas(pictures, maps[1], maps[2], 0)];
  }
  const [rows, columns] = weights.length === 84 ? [12, 7] : [1, weights.length]; // 84: the digits of LeNet-5 as 7 x 12 px
  if (rows === 1) return [];
  const codes = Array.from({ length: operation.outShape[0] }, (_, o) => operation.weightsOf(o));
  return operation.kind === "radial basis" ? [h("h3", {}, "Codes"), weightCanvas(codes, rows, columns, 0)] : [];
}

function weightCanvas(pictures, rows, columns, perLine) {
  const [width, gap] = [320, 4];
  const fit = (n) => Math.floor(width / n) - gap;
  const perRow = perLine || Math.min(pictures.length, 8);
  const side = Math.min(Math.max(fit(perRow), Math.max(14, columns)), 44);
  const height = Math.max(Math.round((side * rows) / columns), 2);
  const line = Math.max(1, Math.min(perRow, Math.floor(width / (side + gap))));
  const canvas = h("canvas", { class: "kernels", role: "img", "aria-label": `${pictures.length} tables of weights as colors` });
  const context = prepareCanvas(canvas, line * (side + gap), Math.ceil(pictures.length / line) * (height + gap));
  const colors = palette();
  const size = Math.max(...pictures.map((one) => one.reduce((most, v) => Math.max(most, Math.abs(v)), 0))) || 1;
  pictures.forEach((values, i) => {
    const raster = rasterize(values, 0, rows, columns, (v, j) => colorOf(v[j] / size, colors));
    context.drawImage(raster, (i % line) * (side + gap), Math.floor(i / line) * (height + gap), side, height);
  });
  return canvas;
}

function formulaTable(block) {
  const rows = formulas(block).map(([name, formula, result]) =>
    h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, formula ? h("span", {}, formula) : "", h("b", {}, formula ? ` = ${result}` : result))),
  );
  return h("table", {}, h("caption", {}, "In numbers"), h("tbody", {}, rows));
}
