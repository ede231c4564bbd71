// Networks side by side at one scale: a box per block, as high as its maps and as wide as they are many.
"use strict";

const MAP_SCALE = 0.8; // px of the page for one px of a map
const DEPTH_SCALE = 0.14; // px for one map
const GAP_BETWEEN = 8;
const VECTOR_SCALE = 0.045; // px for one number of a vector

/** Returns the boxes of all networks of a page without weights. */
function buildScale() {
  const section = h("section", { class: "scale", "aria-label": "Networks at one scale" });
  const draw = () => section.replaceChildren(
    h("p", {}, "All boxes have one scale: as high and deep as a map, as wide as there are maps. A thin line is a row of numbers. Blue blocks have weights."),
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
  const blocks = [{ label: "", outShape: network.input }, ...network.blocks];
  const boxes = blocks.map(({ outShape }) => {
    if (outShape.length === 1) return { width: 2.5, side: Math.max(outShape[0] * VECTOR_SCALE, 2.5), depth: 0 };
    const side = Math.max(outShape[1] * MAP_SCALE, 2);
    return { width: Math.max(outShape[0] * DEPTH_SCALE, 1.5), side, depth: 0.4 * Math.max(outShape[2] * MAP_SCALE, 2) };
  });
  const height = Math.max(...boxes.map(({ side, depth }) => side + depth)) + 4;
  let x = 2;
  const drawn = blocks.map((block, i) => {
    const { width, side, depth } = boxes[i];
    const isSelected = number === app.active && block.label && block.label === app.selected;
    const kind = i === 0 ? "input" : block.params ? "weights" : "plain";
    const top = (height - side + depth) / 2;
    const points = (corners) => corners.map(([dx, dy]) => `${x + dx},${top + dy}`).join(" ");
    const faces = [
      [[0, 0], [width, 0], [width, side], [0, side]],
      [[0, 0], [depth, -depth], [width + depth, -depth], [width, 0]],
      [[width, 0], [width + depth, -depth], [width + depth, side - depth], [width, side]],
    ];
    const title = svg("title", {}, `${block.label || "input"}: ${shapeText(block.outShape)}`);
    const polygons = (depth ? faces : faces.slice(0, 1)).map((face) => svg("polygon", { points: points(face) }));
    const group = svg("g", { class: `${kind}${isSelected ? " selected" : ""}` }, title, ...polygons);
    if (i > 0) group.addEventListener("click", () => (number !== app.active && activate(number), select(block.label)));
    x += width + 0.75 * depth + GAP_BETWEEN;
    return group;
  });
  x += Math.max(...boxes.map(({ depth }) => depth)) / 4;
  const text = `${network.name}: ${network.blocks.map((block) => `${block.label} ${shapeText(block.outShape)}`).join(", ")}`;
  return svg("svg", { width: x, height, viewBox: `0 0 ${x} ${height}`, role: "img", "aria-label": text }, ...drawn);
}
