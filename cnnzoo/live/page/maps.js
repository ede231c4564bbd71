// The architecture: one row per block, with its real maps; a unit under the pointer frames what it depends on.
"use strict";

const MAX_LINES = 3; // of maps that a row shows before it is opened
const GAP = 4;

/** Where the maps of a block are drawn: `{size: [height, width] of a map, columns, count, scale}`. */
function layoutOf(shape, width, isOpen) {
  const total = shape[0];
  if (shape.length === 1) {
    const shown = isOpen ? total : Math.min(total, 512);
    const side = shown > 200 ? 7 : shown > 40 ? 11 : 20;
    const columns = Math.max(1, Math.min(shown, Math.floor((width + 1) / (side + 1))));
    return { size: [side, side], gap: 1, columns, count: shown, rows: Math.ceil(shown / columns) };
  }
  const ratio = shape[1] / shape[2];
  const perLine = total <= 8 ? total : total <= 16 ? total / 2 : Math.floor((width + GAP) / (30 + GAP));
  let side = Math.min(Math.max(Math.floor((width + GAP) / perLine) - GAP, 16), total <= 3 ? 132 : 84, total > 8 ? 56 : 84 + 48);
  if (side > shape[2]) side = Math.max(shape[2] * Math.floor(side / shape[2]), 16); // whole px per value
  const columns = Math.max(1, Math.min(total, Math.floor((width + GAP) / (side + GAP))));
  const shown = isOpen ? total : Math.min(total, (hasWeights() ? MAX_LINES : 1) * columns);
  return { size: [Math.max(Math.round(side * ratio), 1), side], gap: GAP, columns, count: shown, rows: Math.ceil(shown / columns) };
}

/** One row: a block with its maps, or the image. */
class MapRow {
  constructor(label) {
    this.label = label; // "" is the image
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.overlay = h("canvas", { class: "overlay", "aria-hidden": "true" });
    this.stage = h("div", {
      class: "stage",
      tabindex: label ? 0 : null,
      role: label ? "application" : "img",
      "aria-label": label ? `Maps of ${label}. Arrow keys choose a unit, Page Up and Page Down another map.` : "The input of the network",
      pointermove: (event) => this.point(event),
      pointerdown: (event) => this.point(event, true),
      pointerleave: () => app.pinned || setUnit(null),
      keydown: (event) => this.key(event),
    }, this.canvas, this.overlay);
    this.more = h("button", { type: "button", class: "more", hidden: true, click: () => this.open() });
    this.head = label ? this.buildHead() : h("div", { class: "head" }, h("b", {}, "input"), h("small", {}, shapeText(active().network.input)));
    this.element = h("div", { class: "block", "data-label": label }, this.head, h("div", {}, this.stage, this.more, label && !hasWeights() ? this.costs() : null));
  }

  get shape() {
    return this.label ? active().network.find(this.label).outShape : active().network.input;
  }

  get values() {
    const { result } = active();
    return this.label ? result?.outputs.get(this.label) : result?.input;
  }

  buildHead() {
    const block = active().network.find(this.label);
    const name = block.label.split("/").at(-1);
    const text = [h("b", {}, name), h("span", {}, subtitle(block)), h("small", {}, shapeText(block.outShape))];
    const attributes = { type: "button", class: "head", "aria-pressed": "false", "aria-controls": "inspector" };
    return h("button", { ...attributes, click: () => select(app.selected === this.label && !app.unit ? null : this.label) }, text);
  }

  /** Returns the block's shares of the costs, as bars. */
  costs() {
    const { network } = active();
    const block = network.find(this.label);
    const bar = (name, share) => h("div", {}, h("span", {}, name), h("span", { class: "track" }, h("span", { class: "bar", style: `width:${100 * share}%` })), h("span", {}, percent(share)));
    return block.params || block.macs ? h("div", { class: "costs" }, bar("parameters", block.params / network.params), bar("multiply-adds", block.macs / network.macs)) : "";
  }

  open() {
    this.isOpen = !this.isOpen;
    this.draw();
  }

  draw() {
    const width = Math.floor(this.element.lastChild.clientWidth);
    if (!width) return;
    const layout = (this.layout = layoutOf(this.shape, width, this.isOpen));
    const { size, gap, columns, rows } = layout;
    layout.width = columns * (size[1] + gap) - gap;
    layout.height = rows * (size[0] + gap) - gap;
    const context = prepareCanvas(this.canvas, layout.width, layout.height);
    prepareCanvas(this.overlay, layout.width, layout.height);
    const total = this.shape[0];
    this.more.hidden = total <= layout.count && !this.isOpen;
    this.more.textContent = this.isOpen ? "Show fewer" : `Show all ${count(total)}`;
    if (this.values) this.paint(context);
    else this.outline(context);
    this.frame();
  }

  /** Draws empty maps: their sizes, before there are values. */
  outline(context) {
    const { size, count: shown } = this.layout;
    context.fillStyle = `rgb(${palette().zero})`;
    for (let c = 0; c < shown; c++) {
      const [top, left] = this.corner(c);
      context.fillRect(left, top, size[1], size[0]);
    }
  }

  /** Returns the corner of a map in px. */
  corner(c) {
    const { size, gap, columns } = this.layout;
    return [Math.floor(c / columns) * (size[0] + gap), (c % columns) * (size[1] + gap)];
  }

  paint(context) {
    const { shape, values } = this;
    const { size, count: shown } = this.layout;
    const scale = this.label ? scaleOf(values) : null;
    const colors = palette();
    const [height, width] = [shape[1] ?? 1, shape[2] ?? 1];
    const off = active().off.get(this.label);
    const gray = active().result.crop.data;
    for (let c = 0; c < shown; c++) {
      const [top, left] = this.corner(c);
      const color = (v, i) => (scale ? colorOf(scale.of(v[i]), colors) : [gray[i], gray[i], gray[i]]);
      if (height * width === 1) {
        context.fillStyle = `rgb(${color(values, c)})`;
        context.fillRect(left, top, size[1], size[0]);
      } else context.drawImage(rasterize(values, c * height * width, height, width, color), left, top, size[1], size[0]);
      if (off?.has(c)) this.cross(context, top, left);
    }
    this.scale = scale;
    if (scale) this.stage.title = `from ${number(scale.low)} to ${number(scale.high)}`;
  }

  cross(context, top, left) {
    const { size } = this.layout;
    context.strokeStyle = "rgb(200 85 61)";
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(left + 3, top + 3);
    context.lineTo(left + size[1] - 3, top + size[0] - 3);
    context.stroke();
  }

  /** Frames the chosen unit, or the region that it depends on. */
  frame() {
    const context = this.overlay.getContext("2d");
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    const region = app.regions?.get(this.label);
    if (!region || !this.layout) return;
    const [height, width] = [this.shape[1] ?? 1, this.shape[2] ?? 1];
    const { size, count: shown } = this.layout;
    const isUnit = app.unit?.label === this.label;
    const clip = ([first, last], side) => [Math.min(Math.max(first, 0), side - 1), Math.min(Math.max(last, 0), side - 1)];
    const [y, x] = [clip(region.y, height), clip(region.x, width)];
    const [dy, dx] = [size[0] / height, size[1] / width];
    const maps = region.c ?? Array.from({ length: shown }, (_, i) => i);
    context.strokeStyle = getComputedStyle(this.stage).getPropertyValue("--frame");
    context.lineWidth = isUnit ? 2 : 1.5;
    if (!isUnit && maps.length >= Math.min(this.shape[0], shown) && y[0] + x[0] === 0 && y[1] === height - 1 && x[1] === width - 1) {
      return context.strokeRect(0.75, 0.75, this.layout.width - 1.5, this.layout.height - 1.5); // everything: one frame
    }
    for (const c of maps) {
      if (c >= shown) break;
      const [top, left] = this.corner(c);
      const box = [left + x[0] * dx, top + y[0] * dy, (x[1] - x[0] + 1) * dx, (y[1] - y[0] + 1) * dy];
      const grow = isUnit && dy < 5 ? 2 : 0; // a unit of few px would be hidden by its frame
      context.strokeRect(box[0] + 0.75 - grow, box[1] + 0.75 - grow, Math.max(box[2] - 1.5, 1) + 2 * grow, Math.max(box[3] - 1.5, 1) + 2 * grow);
    }
  }

  /** Chooses the unit under the pointer; a click keeps it, and opens the block. */
  point(event, isClick = false) {
    if (!this.label || !this.layout || (app.pinned && !isClick) || (event.pointerType === "touch" && !isClick)) return;
    const box = this.canvas.getBoundingClientRect();
    const { size, gap, columns, count: shown } = this.layout;
    const [py, px] = [event.clientY - box.top, event.clientX - box.left];
    const [row, column] = [Math.floor(py / (size[0] + gap)), Math.floor(px / (size[1] + gap))];
    const c = row * columns + column;
    if (py < 0 || px < 0 || column >= columns || c >= shown) return app.pinned || setUnit(null);
    const inside = (p, i, side) => Math.min(Math.floor(((p - i * (side.px + gap)) / side.px) * side.values), side.values - 1);
    const y = inside(py, row, { px: size[0], values: this.shape[1] ?? 1 });
    const x = inside(px, column, { px: size[1], values: this.shape[2] ?? 1 });
    const unit = { label: this.label, c, y, x };
    const isSame = isClick && app.pinned && JSON.stringify(unit) === JSON.stringify(app.unit);
    setUnit(isSame ? null : unit, isClick && !isSame);
  }

  key(event) {
    if (!this.label) return;
    const unit = app.unit?.label === this.label ? { ...app.unit } : { label: this.label, c: 0, y: 0, x: 0 };
    const [channels, height = 1, width = 1] = this.shape;
    const isVector = this.shape.length === 1;
    const steps = {
      ArrowLeft: () => (isVector ? unit.c-- : unit.x--),
      ArrowRight: () => (isVector ? unit.c++ : unit.x++),
      ArrowUp: () => (isVector ? (unit.c -= this.layout.columns) : unit.y--),
      ArrowDown: () => (isVector ? (unit.c += this.layout.columns) : unit.y++),
      PageUp: () => unit.c--,
      PageDown: () => unit.c++,
      Enter: () => {},
    };
    if (event.key === "Escape") return setUnit(null);
    if (!steps[event.key]) return;
    event.preventDefault();
    if (app.unit?.label === this.label) steps[event.key]();
    unit.c = Math.min(Math.max(unit.c, 0), Math.min(channels, this.layout.count) - 1);
    unit.y = Math.min(Math.max(unit.y, 0), height - 1);
    unit.x = Math.min(Math.max(unit.x, 0), width - 1);
    setUnit(unit, true);
  }
}

/** Chooses a unit (null: none); a pinned one stays when the pointer leaves. */
function setUnit(unit, isPinned = false) {
  if (!unit && !app.unit && !app.pinned) return;
  app.pinned = isPinned;
  app.unit = unit;
  app.regions = null;
  if (unit) {
    const region = { c: [unit.c], y: [unit.y, unit.y], x: [unit.x, unit.x] };
    app.regions = active().network.receptiveField(unit.label, region).set(unit.label, region);
    if (app.selected !== unit.label && (isPinned || matchMedia("(min-width: 1100px)").matches)) select(unit.label);
  }
  notify("unit");
}

function select(label) {
  app.selected = label;
  if (app.unit && app.unit.label !== label) setUnit(null);
  notify("selection");
}

/** Builds the rows of the active network; they are drawn when they come into view. */
function buildMaps() {
  const list = h("div", { class: "blocks" });
  let rows = [];
  let shown = null;
  const visible = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const row = rows.find((one) => one.element === target);
      if (row && isIntersecting) visible.add(row), row.draw();
      else visible.delete(row);
    }
  }, { rootMargin: "200px" });
  const addRows = (blocks, parent) => {
    for (const block of blocks) {
      const row = new MapRow(block.label);
      rows.push(row);
      parent.append(row.element);
      observer.observe(row.element);
      if (!block.paths.some((path) => path.length)) continue;
      const inside = h("details", { class: "paths" }, h("summary", {}, `The ${block.paths.length} paths inside ${block.label}`));
      block.paths.forEach((path, i) => inside.append(h("p", {}, path.length ? `Path ${i + 1}` : `Path ${i + 1}: the input itself`)) ?? addRows(path, inside));
      parent.append(inside);
    }
  };
  const rebuild = () => {
    if (shown === active()) return;
    shown = active();
    observer.disconnect();
    visible.clear();
    list.replaceChildren();
    rows = [new MapRow("")];
    list.append(rows[0].element);
    observer.observe(rows[0].element);
    addRows(active().network.blocks, list);
  };
  const draw = () => visible.forEach((row) => row.draw());
  let request = 0;
  const drawSoon = () => {
    cancelAnimationFrame(request);
    request = requestAnimationFrame(draw);
  };
  on("networks", rebuild);
  on("networks result", drawSoon);
  on("unit", () => visible.forEach((row) => row.frame()));
  on("selection", () => rows.forEach((row) => row.label && row.head.setAttribute("aria-pressed", String(row.label === app.selected))));
  new ResizeObserver(drawSoon).observe(list);
  darkScheme.addEventListener("change", drawSoon);
  return list;
}
