"""Weights in the files of other frameworks: Caffe models and ONNX."""

from typing import TYPE_CHECKING

from cnnzoo.lazy import lazy_names

if TYPE_CHECKING:
    from cnnzoo.weights.formats.key_maps import register_key_map
    from cnnzoo.weights.formats.loading import load_caffemodel, load_onnx

__getattr__ = lazy_names(
    __name__,
    {
        "cnnzoo.weights.formats.key_maps": ("register_key_map",),
        "cnnzoo.weights.formats.loading": ("load_caffemodel", "load_onnx"),
    },
)

__all__ = ["load_caffemodel", "load_onnx", "register_key_map"]
