"""Named data sets, folders of images, and their batches on the device of the network."""

from cnnzoo.data.augment import Augmentation
from cnnzoo.data.augmentation_registry import AUGMENTATIONS, ImageBatch, register_augmentation
from cnnzoo.data.datasets import Data, ImageData, Split, StreamData
from cnnzoo.data.decoding import Decoding
from cnnzoo.data.image_files import ImageFiles
from cnnzoo.data.loaders import balanced_order, epoch_order, has_samples, make_loader, sample_labels
from cnnzoo.data.registry import list_data, load_data, register_data
from cnnzoo.data.resize import resize
from cnnzoo.data.seeding import derive_seed

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Data",
    "Decoding",
    "ImageBatch",
    "ImageData",
    "ImageFiles",
    "Split",
    "StreamData",
    "balanced_order",
    "derive_seed",
    "epoch_order",
    "has_samples",
    "list_data",
    "load_data",
    "make_loader",
    "register_augmentation",
    "register_data",
    "resize",
    "sample_labels",
]
