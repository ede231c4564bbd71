"""Named data sets, and batches made of them where the model lives."""

from cnnzoo.data.augment import Augmentation
from cnnzoo.data.loaders import epoch_order, feed_of, gives_samples, mixed_seed
from cnnzoo.data.datasets import Data, ImageData, Split, StreamData
from cnnzoo.data.resize import crops_of, fitted, normalised, prepare, resize
from cnnzoo.data.named import list_data, load_data

__all__ = [
    "Augmentation",
    "Data",
    "ImageData",
    "Split",
    "StreamData",
    "crops_of",
    "epoch_order",
    "feed_of",
    "fitted",
    "gives_samples",
    "list_data",
    "load_data",
    "mixed_seed",
    "normalised",
    "prepare",
    "resize",
]
