// The test images, and pictures and networks of your own: a file that is dropped or chosen.
"use strict";

function buildGallery() {
  const section = h("section", { class: "gallery", "aria-labelledby": "gallery-title" });
  if (!app.testImages.length) return [];
  const wrong = app.testImages.filter((image) => image.isWrong).length;
  const text = wrong
    ? `The network never saw these in training. ${wrong} of them it takes for something else: they have a dashed frame.`
    : "The network never saw these in training.";
  const buttons = app.testImages.map((picture, i) => {
    const canvas = h("canvas", { "aria-hidden": "true" });
    drawPicture(canvas, picture);
    const label = `Test image ${i}: ${picture.label}${picture.isWrong ? ", mistaken" : ""}`;
    const attributes = { type: "button", "aria-label": label, title: label, "aria-pressed": "false" };
    return h("button", { ...attributes, class: picture.isWrong ? "wrong" : null, click: () => (location.hash = `image=${i}`) }, canvas);
  });
  on("picture", () => buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(app.image === i))));
  buttons.forEach((button, i) => button.addEventListener("click", () => showTestImage(i)));
  section.append(h("h2", { id: "gallery-title" }, "Test images"), h("p", {}, text), h("div", { class: "thumbs" }, buttons));
  return [section];
}

/** Shows the test image that the address names, `#image=7`; returns whether it does. */
function readAddress() {
  const match = /^#image=(\d+)$/.exec(location.hash);
  if (!match) return false;
  const index = Number(match[1]);
  if (index === app.image || showTestImage(index)) return true;
  showMessage(`There is no test image ${index}: this page has ${app.testImages.length}, numbered from 0.`);
  return false;
}

/** Returns the control for files of your own. */
function buildFileInput() {
  const input = h("input", {
    type: "file",
    id: "file",
    accept: "image/*,.safetensors",
    change: async () => {
      for (const file of [...input.files]) await openFile(file);
      input.value = "";
    },
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    for (const file of [...event.dataTransfer.files]) await openFile(file);
  });
  const what = hasWeights() ? "a picture anywhere on this page, or a .safetensors file" : "a .safetensors file anywhere on this page";
  const text = `Drop ${what}${hasWeights() ? " that cnnzoo saved" : " that cnnzoo saved, and its network runs here"}. Nothing leaves your computer.`;
  return h("section", { class: "files" }, h("h2", {}, h("label", { for: "file" }, "Your own file")), h("p", {}, text), input);
}

/** Opens a picture or a network. */
async function openFile(file) {
  try {
    showMessage("");
    if (/\.safetensors$/i.test(file.name)) openNetwork(await file.arrayBuffer());
    else showPicture(await readPicture(file));
  } catch (error) {
    const reason = error instanceof PageError ? error.message : `It cannot be read (${error.message}).`;
    showMessage(`${file.name}: ${reason}`);
  }
}

function openNetwork(bytes) {
  const number = addNetwork(Network.read(bytes), bytes);
  if (!app.picture) app.picture = app.entries[number].preprocessing.blank();
  activate(number);
  runEntry(active());
  document.getElementById("network").scrollIntoView({ block: "nearest" });
}

/** Returns the pixels of an image file: upright, and over the background where it is transparent. */
async function readPicture(file) {
  if (!/^image\//.test(file.type)) throw new PageError("This is neither a picture nor a .safetensors file.");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new PageError("This picture is damaged, or of a format that your browser cannot read.");
  }
  const { width, height } = bitmap;
  if (width * height > 2 ** 25) throw new PageError(`This picture has ${count(width * height)} pixels; up to ${count(2 ** 25)} are read.`);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  const gray = active()?.preprocessing.background ?? 255;
  context.fillStyle = `rgb(${gray},${gray},${gray})`;
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data;
  const data = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) data[c * width * height + i] = pixels[4 * i + c];
  return { channels: 3, height, width, data };
}

/** Shows a sentence for the reader; an empty one goes away. */
function showMessage(text) {
  const element = document.getElementById("message");
  element.textContent = text;
  element.hidden = !text;
}
