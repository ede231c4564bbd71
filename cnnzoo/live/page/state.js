// The state of the page: networks, picture and selection. Views listen to changes; a script element shows it to tests.
"use strict";

const MAIN_THREAD_MACS = 2e7; // a smaller network runs at once, a larger one in the worker

/** Loaded networks with their results: `{network, file, preprocessing, random, off, result, next}`. */
const app = {
  entries: [],
  active: 0,
  picture: null, // as drawn or chosen, before preprocessing
  image: "drawn", // or the index of a test image
  selected: null, // label of the block in the inspector
  unit: null, // {label, c, y, x} under the pointer
  testImages: [],
  listeners: { networks: [], result: [], picture: [], selection: [], unit: [] },
};

/** Calls a function on each change of a part of the state, see `app.listeners`. */
function on(events, listener) {
  for (const event of events.split(" ")) app.listeners[event].push(listener);
}

function notify(event) {
  for (const listener of app.listeners[event]) listener();
}

const active = () => app.entries[app.active];

/**
 * Adds a network; the first one is active.
 * @param {ArrayBuffer | null} file its weights file
 * @param {{name: string, file: ArrayBuffer}[]} checkpoints the network at earlier points of its training, in order
 */
function addNetwork(network, file, checkpoints = []) {
  const number = app.entries.length;
  const versions = [...checkpoints, { name: "trained", file, network }];
  const preprocessing = new Preprocessing(network.description);
  app.entries.push({ number, network, file, versions, preprocessing, random: 0, off: new Map() });
  return number;
}

function activate(number) {
  app.active = number;
  app.unit = null;
  if (app.selected && !active().network.find(app.selected)) app.selected = null;
  notify("networks");
  notify("picture");
  notify("result");
  notify("selection");
  publish();
}

/** Shows a picture: a test image by its index, or what was drawn or dropped. */
function showPicture(picture, image = "drawn") {
  Object.assign(app, { picture, image });
  notify("picture");
  for (const entry of app.entries) runEntry(entry);
}

function showTestImage(index) {
  const picture = app.testImages[index];
  if (!picture) return false;
  showPicture({ ...picture, data: picture.data.slice() }, index);
  return true;
}

/** Runs a network on the picture, at once or in the worker; of several waiting pictures only the last one is run. */
function runEntry(entry) {
  if (!app.picture || !entry.network.tensors) return;
  entry.problem = null;
  try {
    const crop = entry.preprocessing.crop(app.picture);
    const job = { crop, image: app.image, input: entry.preprocessing.normalize(crop) };
    if (entry.network.macs <= MAIN_THREAD_MACS || !backgroundRun(entry, job)) {
      finish(entry, job, entry.network.run(job.input, entry.off));
    }
  } catch (error) {
    entry.problem = error.message;
    notify("result");
  }
}

function finish(entry, job, { logits, outputs }) {
  entry.result = { ...job, logits, outputs, probabilities: softmax(logits) };
  notify("result");
  publish();
}

// --- the worker ---

let worker; // undefined before its first use, null where the browser has none for this page

function startWorker() {
  try {
    const text = ["engine", "worker"].map((id) => document.getElementById(id).textContent).join("\n");
    worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => {
      const entry = app.entries[data.id];
      const job = entry.running;
      entry.running = null;
      if (data.error) entry.problem = data.error;
      if (data.error) notify("result");
      else finish(entry, job, data);
      if (entry.next) backgroundRun(entry, entry.next);
    };
  } catch {
    worker = null;
  }
}

function backgroundRun(entry, job) {
  if (worker === undefined) startWorker();
  if (!worker) return false;
  if (entry.running) {
    entry.next = job;
    return true;
  }
  Object.assign(entry, { running: job, next: null });
  const message = { id: entry.number, number: entry.number, input: job.input, off: entry.off };
  if (entry.sent !== entry.network) {
    Object.assign(message, { file: entry.file }, entry.random ? { random: entry.random } : {});
    entry.sent = entry.network;
  }
  worker.postMessage(message);
  return true;
}

// --- switches ---

/** Replaces the weights by random ones (a seed), or brings those of the file back (0). */
function setRandom(entry, seed) {
  const version = entry.versions.find(({ file }) => file === entry.file);
  version.network ??= Network.read(version.file);
  entry.random = seed;
  entry.network = seed ? randomized(version.network, seed) : version.network;
  runEntry(entry);
}

/** Shows the network at another point of its training. */
function setVersion(entry, index) {
  entry.file = entry.versions[index].file;
  setRandom(entry, 0);
}

/** Switches a map of a block off or on. */
function toggleMap(entry, label, c) {
  const off = entry.off.get(label) ?? new Set();
  if (!off.delete(c)) off.add(c);
  entry.off.set(label, off);
  runEntry(entry);
}

// --- for tests ---

/** Returns the class with the highest score; -1 if a score is not a number. */
const bestClass = ({ logits }) => logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));

/** Writes the state of the active network into the element #state. */
function publish() {
  const { result, network } = active();
  if (!result) return;
  const blocks = {};
  for (const [label, out] of result.outputs) {
    let [sum, max] = [0, -Infinity];
    for (const value of out) {
      sum += value;
      if (value > max) max = value;
    }
    blocks[label] = { shape: network.find(label).outShape, mean: sum / out.length, max };
  }
  const label = network.labels[bestClass(result)] ?? null;
  document.getElementById("state").textContent = JSON.stringify({ image: result.image, logits: result.logits, label, blocks });
}

window.cnnzoo = {
  /** Returns the scores of the active network for a prepared input, C * H * W values. */
  run: (input) => active().network.run(input, active().off).logits,
};
