// Starts the page: reads its data, builds the views, and runs the first picture.
"use strict";

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  for (const { file, description, checkpoints = [] } of data.networks) {
    const bytes = file ? fromBase64(file).buffer : null;
    const versions = checkpoints.map((one) => ({ name: one.name, file: fromBase64(one.file).buffer }));
    addNetwork(bytes ? Network.read(bytes) : new Network(description, null), bytes, versions);
  }
  app.testImages = readImages(data.images);
  const network = active().network;
  document.getElementById("title").textContent = network.name;
  const side = hasWeights() ? [h("section", { "aria-label": "Picture" }, h("h2", {}, "Picture"), ...buildPad()), ...buildGallery()] : [];
  document.body.classList.toggle("shapes", !hasWeights());
  document.getElementById("left").append(...side, buildFileInput());
  document.getElementById("network").append(...(hasWeights() ? [] : [buildScale()]), buildNetworkHead(), buildMaps());
  document.getElementById("right").append(...(hasWeights() ? [buildBars()] : []), buildInspector());
  notify("networks");
  notify("selection");
  window.addEventListener("hashchange", readAddress);
  if (hasWeights() && !readAddress() && !showTestImage(0)) showPicture(active().preprocessing.blank());
}

function readImages(images) {
  if (!images) return [];
  const { channels, height, width, labels, wrong } = images;
  const data = fromBase64(images.data);
  const size = channels * height * width;
  return labels.map((label, i) => ({ channels, height, width, data: data.subarray(i * size, (i + 1) * size), label, isWrong: wrong.includes(i) }));
}

/** Returns the tabs of the networks, their sizes, and the switch for random weights. */
function buildNetworkHead() {
  const tabs = h("div", { class: "tabs", role: "group", "aria-label": "Networks" });
  const text = h("p", { class: "sizes" });
  const input = h("input", { type: "checkbox", change: (event) => setRandom(active(), event.target.checked ? 1 + Math.floor(Math.random() * 1e9) : 0) });
  const slider = h("input", { type: "range", min: 0, "aria-label": "Point in the training", input: () => setVersion(active(), Number(slider.value)) });
  const version = h("output");
  const training = h("label", { class: "training" }, "training ", slider, version);
  const random = h("label", { title: "The network before training: its weights are random numbers" }, input, " random weights");
  on("networks result", () => {
    const { network, random: seed, off } = active();
    tabs.hidden = app.entries.length < 2;
    if (tabs.children.length !== app.entries.length) {
      tabs.replaceChildren(...app.entries.map((entry, i) => h("button", { type: "button", click: () => activate(i) }, entry.network.name)));
    }
    [...tabs.children].forEach((tab, i) => tab.setAttribute("aria-pressed", String(i === app.active)));
    const { versions, file } = active();
    training.hidden = versions.length < 2;
    slider.max = versions.length - 1;
    slider.value = versions.findIndex((one) => one.file === file);
    version.textContent = versions[slider.value].name || `${Number(slider.value) + 1} of ${versions.length}`;
    random.hidden = !network.tensors;
    input.checked = Boolean(seed);
    const switched = [...off.values()].reduce((sum, set) => sum + set.size, 0);
    text.replaceChildren(
      `${count(network.params)} parameters, ${count(network.macs)} multiply-adds `,
      ...(switched ? [h("button", { type: "button", click: () => (off.clear(), runEntry(active())) }, `Switch ${switched} on again`)] : []),
    );
  });
  const legend = h("p", { class: "legend" }, h("span", { class: "low" }), "small ", h("span", { class: "high" }), "large ", h("span", { class: "negative" }), "negative");
  return h("div", { class: "network-head" }, tabs, text, hasWeights() ? legend : null, random, training);
}

try {
  start();
} catch (error) {
  showMessage(`This page cannot show its network: ${error.message}`);
  throw error;
}
