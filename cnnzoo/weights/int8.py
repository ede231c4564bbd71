"""Quantization of ONNX files to int8, by onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from cnnzoo.weights.export_formats import INPUT_NAME, silence


def quantize_onnx(source: Path, target: Path, batches: Iterator[torch.Tensor]) -> None:
    """Writes an ONNX file that computes in int8.

    Weights have a scale per output map or unit; activations have one per tensor, from their range on the images.

    Args:
        source: The file in float32.
        target: The file to write.
        batches: Inputs of the network, each (N, C, H, W), to calibrate the activations with.
    """
    quantization: Any = import_module("onnxruntime.quantization")
    preprocess: Any = import_module("onnxruntime.quantization.shape_inference")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            batch = next(batches, None)
            return None if batch is None else {INPUT_NAME: batch.numpy()}

    prepared = target.with_name(f"prepared_{target.name}")
    with silence("root"):
        # batch norm becomes part of the convolutions
        preprocess.quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # weights of 7 bits: products of 8 bits saturate on processors without VNNI
        )
    prepared.unlink()
