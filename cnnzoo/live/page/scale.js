// Networks side by side at one scale: a box per block, as high as its maps and as wide as they are many.
"use strict";

const MAP_SCALE = 0.62; // px of the page for one px of a map
const DEPTH_SCALE = 0.09; // px for one map
const VECTOR_SCALE = 0.035; // px for one number of a vector

/** Returns the boxes of all networks of a page without weights. */
function buildScale() {
  const section = h("section", { class: "scale", "aria-label": "Networks at one scale" });
  const draw = () => section.replaceChildren(
    h("p", {}, "All boxes have one scale: the height is the side of a map, the width the number of maps; a thin line is a row of numbers."),
    ...app.entries.map((entry, i) => h("div", { class: "figure" }, h("h3", {}, entry.network.name), drawBoxes(entry.network, i))),
  );
  on("networks selection", draw);
  return section;
}

function drawBoxes(network, number) {
  const svg = (tag, attributes, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const input = { label: "", outShape: network.input };
  const sizes = [input, ...network.blocks].map(({ outShape }) =>
    outShape.length === 3
      ? [Math.max(outShape[0] * DEPTH_SCALE, 1.5), Math.max(outShape[1] * MAP_SCALE, 1.5)]
      : [2, Math.max(outShape[0] * VECTOR_SCALE, 2)],
  );
  const gap = Math.max(3, Math.min(14, (560 - sizes.reduce((sum, [width]) => sum + width, 0)) / sizes.length));
  const height = Math.max(...sizes.map(([, side]) => side)) + 4;
  let x = 2;
  const boxes = [input, ...network.blocks].map((block, i) => {
    const [width, side] = sizes[i];
    const isSelected = number === app.active && block.label && block.label === app.selected;
    const kind = i === 0 ? "input" : block.params ? "weights" : "plain";
    const title = svg("title", {}, `${block.label || "input"}: ${shapeText(block.outShape)}`);
    const rect = svg("rect", { x, y: (height - side) / 2, width, height: side, rx: 1, class: `${kind}${isSelected ? " selected" : ""}` }, title);
    if (i > 0) rect.addEventListener("click", () => (number !== app.active && activate(number), select(block.label)));
    x += width + gap;
    return rect;
  });
  const text = `${network.name}: ${network.blocks.map((block) => `${block.label} ${shapeText(block.outShape)}`).join(", ")}`;
  return svg("svg", { width: x, height, viewBox: `0 0 ${x} ${height}`, role: "img", "aria-label": text }, ...boxes);
}
