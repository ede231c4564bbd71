"""What a file may cost: the limits on everything that is read from others, in one place.

A description of a network is checked in this order, each step before the next does work or takes memory:

1. Its JSON: bytes, depth (``cnnzoo.text.parse_json``).
2. Its blocks: number, depth, the values of their fields (``Spec.from_dict``).
3. Its shapes, which are inferred without memory: number of values of each output, number of weights
   (``cnnzoo.blocks.build``).
4. Its tensors: names, shapes and offsets in the header of the weights file, before any is read
   (``cnnzoo.serialization``, ``cnnzoo.weights.files``).
"""

from __future__ import annotations

# --- JSON ---

# JSON is parsed before it can be checked, so its size is limited. The description of a thousand convolutions has
# 200 kB; JSON that is all brackets takes thirty times its size in memory.
MAX_DESCRIPTION_BYTES = 3 * 2**19  # of config.json, and of the JSON in the metadata of a weights file
MAX_HEADER_BYTES = 4 * 2**20  # of the JSON before the tensors of a safetensors file
MAX_METRICS_BYTES = 64 * 2**20  # of metrics.json: a confusion matrix of a thousand classes takes 14 MB
MAX_JSON_DEPTH = 200  # of nested lists and objects; each provenance holds the one before
MAX_NAME_LENGTH = 1000  # of a label name; of ImageNet's, the longest has 121 characters

# --- networks ---

MAX_BLOCKS = 2500  # in a Spec from a file; a ResNet-1001 has 2,331
MAX_PATHS = 2500  # in a Spec from a file, and rows of tables
MAX_DEPTH = 16  # of nested blocks in a Spec from a file
MAX_VALUE = 2**24  # of an integer in a block; no classic CNN needs a larger one
MAX_LABEL_LENGTH = 200  # of a block's label and a Spec's name, in bytes: a file name has at most 255
MAX_DISTINCT_BLOCKS = 600  # that differ in their values or the shape of their input: about 0.5 ms each
MAX_SIZE_TRIALS = 800  # blocks that are tried to find the image size that a network needs
MAX_OUTPUT = 2**31  # values of one block's output for one image: twice those of a VGG on images of 4096 px
MAX_WEIGHTS = 2**31  # values of parameters and buffers of a section of a network that is built in memory
MAX_SHAPES_BYTES = 10_000_000  # of the keys of memoized shapes

# --- preprocessing ---

MAX_IMAGE_SIDE = 2**12  # px of a stored or preprocessed image
MAX_IMAGE_PIXELS = 2**24  # px of a preprocessed image, before it is cropped

# --- data ---

MIN_IMAGE_BYTES_REFUSED = 2**24  # of a decoded image: smaller ones are decoded from a file of any size
MAX_IMAGE_COMPRESSION = 500  # how many times a larger image may grow; blank paper as JPEG grows to 200 times its size
MIN_IDX_BYTES_REFUSED = 2**25  # of a decompressed IDX file
MAX_IDX_COMPRESSION = 100  # how many times a larger IDX file may grow: MNIST's grow to five times their size

# --- messages ---

MAX_MESSAGE_LENGTH = 2000  # characters of an error or warning
