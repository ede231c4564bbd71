// Reads a safetensors file of cnnzoo: the description of the network, and the tensors.
"use strict";

const MAX_HEADER_BYTES = 4 * 2 ** 20;
const MAX_PARAMS = 2 ** 23; // of a network that runs in this page
const CHUNK_BYTES = 8 * 2 ** 20; // of one chunk of a tensor, which is hashed on its own

/** A message for the reader of the page: one sentence that says what was given and what helps. */
class PageError extends Error {}

/** The values of a tensor as float32, by the dtype in the header. */
const DTYPES = {
  F64: [8, (bytes) => Float32Array.from(new Float64Array(bytes))],
  F32: [4, (bytes) => new Float32Array(bytes)],
  F16: [2, (bytes) => Float32Array.from(new Uint16Array(bytes), halfToFloat)],
  BF16: [2, (bytes) => new Float32Array(Uint32Array.from(new Uint16Array(bytes), (half) => half << 16).buffer)],
  I64: [8, (bytes) => Float32Array.from(new BigInt64Array(bytes), Number)],
  I32: [4, (bytes) => Float32Array.from(new Int32Array(bytes))],
  I16: [2, (bytes) => Float32Array.from(new Int16Array(bytes))],
  I8: [1, (bytes) => Float32Array.from(new Int8Array(bytes))],
  U8: [1, (bytes) => Float32Array.from(new Uint8Array(bytes))],
  BOOL: [1, (bytes) => Float32Array.from(new Uint8Array(bytes))],
};

function halfToFloat(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 25) * (1024 + fraction) : sign * 2 ** -24 * fraction;
}

/**
 * Reads a file.
 * @param {ArrayBuffer} file its content
 * @returns {{description: object, tensors: Map<string, {dtype: string, shape: number[], bytes: Uint8Array}>}}
 */
function readSafetensors(file) {
  const incomplete = (what) => new PageError(`This is not a complete safetensors file: ${what}.`);
  if (file.byteLength < 8) throw incomplete("it has fewer than 8 bytes");
  const length = Number(new DataView(file).getBigUint64(0, true));
  if (length > file.byteLength - 8) throw incomplete("it ends before its header does");
  if (length > MAX_HEADER_BYTES) throw incomplete("its header is larger than cnnzoo writes");
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(file, 8, length)));
  } catch {
    throw incomplete("its header is not JSON");
  }
  const tensors = new Map();
  let count = 0;
  for (const [name, entry] of Object.entries(header ?? {})) {
    if (name === "__metadata__") continue;
    const [begin, end] = entry?.data_offsets ?? [];
    const { dtype, shape } = entry;
    if (!DTYPES[dtype] || !Array.isArray(shape)) throw incomplete(`tensor ${name} has the dtype ${dtype}`);
    const size = DTYPES[dtype][0] * shape.reduce((a, b) => a * b, 1);
    if (!(begin >= 0 && end - begin === size && 8 + length + end <= file.byteLength)) {
      throw incomplete(`it ends before tensor ${name} does`);
    }
    tensors.set(name, { dtype, shape, bytes: new Uint8Array(file, 8 + length + begin, size) });
    count += size / DTYPES[dtype][0];
  }
  if (count > MAX_PARAMS) {
    const [given, limit] = [count, MAX_PARAMS].map((n) => n.toLocaleString("en"));
    throw new PageError(`This network has ${given} weights; networks of up to ${limit} run in this page.`);
  }
  const description = parseDescription(header.__metadata__);
  for (const [alias, name] of Object.entries(description.aliases ?? {})) {
    if (!tensors.has(name)) throw incomplete(`it has no tensor ${name}`);
    tensors.set(alias, tensors.get(name));
  }
  const expected = description.cnnzoo.weights_sha256;
  if (expected && expected !== checksum(tensors)) {
    throw new PageError("This file is damaged: its weights do not have the checksum that it states. Download it again.");
  }
  return { description, tensors };
}

function parseDescription(metadata) {
  let description = null;
  try {
    description = JSON.parse(metadata?.cnnzoo ?? "null");
  } catch {
    // as if there were none
  }
  if (!description?.cnnzoo?.spec) {
    throw new PageError("This file does not describe its network. Write one with cnnzoo.save(model, \"net.safetensors\").");
  }
  const version = description.cnnzoo.format_version;
  if (version !== 1) throw new PageError(`This file has the format ${version}, and this page reads 1: make a newer page.`);
  return description;
}

/** Returns the values of a tensor, float32. */
function tensorValues({ dtype, bytes }) {
  return DTYPES[dtype][1](bytes.slice().buffer); // a copy is aligned
}

/** Returns the checksum of tensors, as cnnzoo.serialization.weights_sha256 computes it. */
function checksum(tensors) {
  const names = [...tensors.keys()].sort((a, b) => (a < b ? -1 : 1));
  const values = names.map((name) => {
    const { dtype, shape, bytes } = tensors.get(name);
    const digests = [];
    for (let i = 0; i < bytes.length; i += CHUNK_BYTES) digests.push(sha256(bytes.subarray(i, i + CHUNK_BYTES)));
    return [name, dtype, shape, digests];
  });
  return sha256(new TextEncoder().encode(JSON.stringify(values)));
}

/** Returns the SHA-256 of bytes as text. The browser's own is not available to every page that is opened as a file. */
function sha256(bytes) {
  const { constants, initial } = sha256.tables;
  const h = Uint32Array.from(initial);
  const w = new Uint32Array(64);
  const tail = new Uint8Array((bytes.length % 64 < 56 ? 64 : 128));
  const whole = bytes.length - (bytes.length % 64);
  tail.set(bytes.subarray(whole));
  tail[bytes.length - whole] = 0x80;
  new DataView(tail.buffer).setBigUint64(tail.length - 8, BigInt(bytes.length) * 8n);
  const absorb = (block, at) => {
    for (let i = 0; i < 16; i++, at += 4) {
      w[i] = (block[at] << 24) | (block[at + 1] << 16) | (block[at + 2] << 8) | block[at + 3];
    }
    for (let i = 16; i < 64; i++) {
      const a = w[i - 15];
      const b = w[i - 2];
      const s0 = ((a >>> 7) | (a << 25)) ^ ((a >>> 18) | (a << 14)) ^ (a >>> 3);
      const s1 = ((b >>> 17) | (b << 15)) ^ ((b >>> 19) | (b << 13)) ^ (b >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, k] = h;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (k + s1 + ((e & f) ^ (~e & g)) + constants[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [k, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, k].forEach((value, i) => (h[i] += value));
  };
  for (let at = 0; at < whole; at += 64) absorb(bytes, at);
  for (let at = 0; at < tail.length; at += 64) absorb(tail, at);
  return [...h].map((value) => value.toString(16).padStart(8, "0")).join("");
}

/** The first 32 bits of the fractions of roots of the first primes, which SHA-256 takes as its constants. */
sha256.tables = (() => {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const fraction = (n, degree) => {
    // the integer root of n * 2**(32 * degree), whose last 32 bits are those of the fraction
    const target = BigInt(n) << BigInt(32 * degree);
    let root = 0n;
    for (let bit = 1n << 40n; bit; bit >>= 1n) if ((root + bit) ** BigInt(degree) <= target) root += bit;
    return Number(root & 0xffffffffn);
  };
  return { constants: primes.map((p) => fraction(p, 3)), initial: primes.slice(0, 8).map((p) => fraction(p, 2)) };
})();

/** Returns the bytes of base64 text. */
function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
