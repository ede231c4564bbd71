"""Named data sets, held as tensors, and batches made of them where the model lives."""

from cnnzoo.data.batches import Batches, epoch_order, prepare, resize
from cnnzoo.data.images import ImageData, Split
from cnnzoo.data.sources import list_data, load_data

__all__ = ["Batches", "ImageData", "Split", "epoch_order", "list_data", "load_data", "prepare", "resize"]
