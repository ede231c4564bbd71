// Runs networks beside the page, so that a slow one does not freeze it. The engine stands above this text.
"use strict";

const networks = new Map(); // by the number that the page gave them

self.onmessage = ({ data: { id, number, file, random, input, off } }) => {
  try {
    if (file) networks.set(number, Network.read(file));
    if (random !== undefined) networks.set(number, randomized(networks.get(number), random));
    if (!input) return;
    const { logits, outputs } = networks.get(number).run(input, off);
    self.postMessage({ id, logits, outputs }, [...new Set([...outputs.values()].map((out) => out.buffer))]);
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
};
