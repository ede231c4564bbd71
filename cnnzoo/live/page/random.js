// Random weights: those of a network that has learned nothing yet.
"use strict";

/** Returns a function that draws numbers from 0 to 1, the same for the same seed (mulberry32). */
function randomNumbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Returns a network with random weights: uniform within 1 / sqrt(fan-in), as torch draws them by default. */
function randomized(network, seed) {
  const random = randomNumbers(seed);
  const tensors = new Map();
  for (const [name, { shape }] of network.tensors) {
    const values = new Float32Array(product(shape));
    const weight = network.tensors.get(name.replace(/\.bias$/, ".weight"));
    const isLayer = weight.shape.length === 2 || weight.shape.length === 4; // dense or convolution
    const bound = isLayer ? 1 / Math.sqrt(product(weight.shape.slice(1))) : 0;
    const center = isLayer || /(bias|mean)$/.test(name) ? 0 : shape.length === 3 ? 0.25 : 1; // 3: subsampling of 2 x 2
    for (let i = 0; i < values.length; i++) values[i] = center + bound * (2 * random() - 1);
    tensors.set(name, { dtype: "F32", shape, bytes: new Uint8Array(values.buffer) });
  }
  return network.withTensors(tensors);
}
