"""Export of networks, also quantized."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo import weights
from cnnzoo.api.inference import evaluate
from cnnzoo.api.sources import create, load_network
from cnnzoo.api.specs import is_saved
from cnnzoo.data import Data, load_data
from cnnzoo.data.loaders import epoch_order
from cnnzoo.errors import FileError, InputError
from cnnzoo.fields import check_positive_int
from cnnzoo.files import exists, os_reason
from cnnzoo.measure.tables import Printable, Table
from cnnzoo.metadata import Metadata, get_metadata, require_preprocessing
from cnnzoo.modules import unwrap
from cnnzoo.network import CNN
from cnnzoo.spec import Spec
from cnnzoo.train import Evaluation, require_type

Model = nn.Module | str | PathLike[str]

_BATCH_SIZE = 32  # of the calibration


def export(
    model: Model | Spec,
    path: str | PathLike[str],
    *,
    library: str | None = None,
    opset: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a network in eval mode in the form that the suffix of the file names, and checks the scores of the file.

    Args:
        model: A network of the zoo, the path of a saved one, ``hf://user/repo``, or a name whose weights ship; for
            ``.py`` also a Spec or any registered name.
        path: A file name:
            ``.onnx``: ONNX, for any batch size (needs ``pip install "cnnzoo[onnx]"``);
            ``.pt2``: ``torch.export``, for any batch size;
            ``.pte``: ExecuTorch with XNNPACK, for one image at a time (``pip install "cnnzoo[executorch]"``);
            ``.py``: the network as a module in plain PyTorch, without its weights;
            ``.pth``, ``.safetensors``: the state dict of the same network in ``library``.
        library: For a state dict: ``"torchvision"`` or ``"timm"``.
        opset: For ONNX: the version of the operators; that of the exporter by default.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The file.

    Raises:
        InputError: If the suffix is another, an argument does not apply to it, or a required package is not installed.
        FileError: If the file exists, or cannot be written.
        WeightsError: If the exported file gives other scores, or the library's network has other weights.
    """
    if Path(path).suffix == ".py" and not isinstance(model, nn.Module) and not _has_weights(model):
        model = create(model, seed=0)  # only its Spec matters
    network = load_network(model)  # type: ignore[arg-type]  # it refuses other types
    return weights.export(network, path, library=library, opset=opset, overwrite=overwrite)


def _has_weights(model: str | PathLike[str] | Spec) -> bool:
    """Returns whether a source names a saved network, or weights that ship."""
    is_here = isinstance(model, str) and exists(Path(model))
    return is_here or is_saved(model) or (isinstance(model, str) and weights.has_pretrained(model))


# --- int8 ---


@dataclass(frozen=True, eq=False)
class Quantization(Printable):
    """A network quantized to int8.

    Attributes:
        path: The ONNX file.
        before: The evaluation of the network in float32.
        after: The evaluation of the file.
        bytes_before: Size of the same file in float32.
        bytes_after: Size of the file.
    """

    path: Path
    before: Evaluation
    after: Evaluation
    bytes_before: int
    bytes_after: int

    def tables(self) -> Sequence[Table]:
        """Accuracy, loss and size before and after."""
        before, after = self.before, self.after
        rows: list[list[Any]] = [[f"accuracy ({before.n:,} images)", f"{before.top1:.4f}", f"{after.top1:.4f}"]]
        if before.top5 is not None and after.top5 is not None:
            rows += [["top 5", f"{before.top5:.4f}", f"{after.top5:.4f}"]]
        rows += [["loss", f"{before.loss:.4f}", f"{after.loss:.4f}"], ["bytes", self.bytes_before, self.bytes_after]]
        return [Table("", ["", "float32", "int8"], rows)]


def quantize(
    model: Model,
    path: str | PathLike[str],
    data: Data | str,
    *,
    images: int = 256,
    opset: int | None = None,
    overwrite: bool = False,
) -> Quantization:
    """Writes a network as ONNX in int8, and evaluates it before and after; ``print`` shows both accuracies.

    The ranges of the activations are those on some training images, prepared as for ``evaluate``. Needs
    ``pip install "cnnzoo[onnx]"``.

    Args:
        model: As for ``export``: a network with a preprocessing.
        path: A file name ``*.onnx``.
        data: The data set, or its name, as for ``evaluate``: training images calibrate, test images evaluate.
        images: Number of training images to calibrate with, drawn at random with a fixed seed; all if there are fewer.
        opset: The version of the operators; that of the exporter by default.
        overwrite: Whether an existing file may be replaced.

    Raises:
        InputError: If the network has no preprocessing, or a required package is not installed.
        DataError: If the data cannot be loaded.
        FileError: If the file exists, or cannot be written.
    """
    weights.require_packages("int8", ("onnx", "onnxscript", "onnxruntime"), "onnx")
    target = Path(path)
    if target.suffix != ".onnx":
        raise InputError(f"{target}: name the file *.onnx; quantize writes ONNX")
    if exists(target) and not overwrite:
        raise FileError(f"{target} exists already; choose another name, or pass overwrite=True (--overwrite)")
    network = load_network(model)
    inner = unwrap(network)
    data = load_data(data) if isinstance(data, str) else data
    require_type("data", data)
    metadata = get_metadata(inner)
    if data.dtype == torch.uint8:
        require_preprocessing(inner, inner.spec.name if isinstance(inner, CNN) else type(inner).__name__)
    n = min(check_positive_int("images", images), len(data.train))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            whole = weights.export(network, Path(folder) / "float32.onnx", opset=opset)
            inputs = _Inputs()
            evaluate(
                _Recorder(metadata, len(metadata.label_names or data.classes), inputs),
                data.subset(epoch_order(len(data.train), 0, 0)[:n]),
                batch_size=_BATCH_SIZE,
            )
            file = Path(folder) / target.name
            weights.quantize_onnx(whole, file, iter(inputs.batches))
            before, after = evaluate(network, data), evaluate(_Quantized(metadata, file), data)
            result = Quantization(target, before, after, whole.stat().st_size, file.stat().st_size)
            os.replace(file, target)
    except OSError as error:
        raise FileError(f"{target} cannot be written: {os_reason(error)}") from None
    return result


class _Inputs:
    """The inputs that an evaluation prepares."""

    def __init__(self) -> None:
        self.batches: list[torch.Tensor] = []


class _Recorder(nn.Module):
    """A network that remembers its inputs."""

    def __init__(self, metadata: Metadata, num_classes: int, inputs: _Inputs) -> None:
        super().__init__()
        self.metadata, self.num_classes, self.inputs = metadata, num_classes, inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inputs.batches.append(x.cpu())
        return x.new_zeros(len(x), self.num_classes)


class _Quantized(nn.Module):
    """The network in an ONNX file."""

    def __init__(self, metadata: Metadata, file: Path) -> None:
        super().__init__()
        self.metadata, self.run = metadata, weights.run_onnx(file)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(x)
