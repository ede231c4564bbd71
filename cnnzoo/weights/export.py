"""Export to formats that other programs run: ONNX and ``torch.export``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo.errors import FileError, InputError, WeightsError
from cnnzoo.files import exists, os_reason
from cnnzoo.module_copy import in_eval_mode
from cnnzoo.modules import require_weights, unwrap
from cnnzoo.network import CNN

ONNX_SUFFIX, TORCH_SUFFIX = ".onnx", ".pt2"
_BATCH_SIZES = (1, 2, 5)  # with which the exported network is checked
_TOLERANCE = 1e-4  # of the largest score

Runner = Callable[[torch.Tensor], torch.Tensor]  # runs an exported network: images (N, C, H, W) to scores


def export(model: nn.Module, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Writes a network in eval mode for other programs to run, with any batch size.

    The file is read back and run (ONNX if onnxruntime is installed): its scores must equal those of the network.

    Args:
        model: A cnnzoo network; it is not changed.
        path: A file name: ``.onnx`` for ONNX (needs ``pip install "cnnzoo[onnx]"``), ``.pt2`` for ``torch.export``.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The path.

    Raises:
        InputError: If the model is not a cnnzoo network or has no weights, the suffix is not known, or a package is
            missing.
        FileError: If the file exists already or cannot be written.
        WeightsError: If the exported network gives other scores.
    """
    model = unwrap(model) if isinstance(model, nn.Module) else model
    if not isinstance(model, CNN):
        raise InputError(f"export expects a cnnzoo network, not {type(model).__name__}; load one with cnnzoo.load")
    target = Path(path)
    if target.suffix not in (ONNX_SUFFIX, TORCH_SUFFIX):
        raise InputError(f"{target}: name the file *{ONNX_SUFFIX} for ONNX, or *{TORCH_SUFFIX} for torch.export")
    if exists(target) and not overwrite:
        raise FileError(f"{target} exists already; choose another name, or pass overwrite=True (--overwrite)")
    require_weights(model, model.spec.name)
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if target.suffix == ONNX_SUFFIX and missing:
        raise InputError(f'ONNX needs {" and ".join(missing)}, not installed here: pip install "cnnzoo[onnx]"')
    write = _write_onnx if target.suffix == ONNX_SUFFIX else _write_torch
    network = in_eval_mode(model)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            file = Path(folder) / target.name
            run = write(network, file)
            if run is not None:
                for batch_size in _BATCH_SIZES:
                    _require_same_scores(network, run, target, batch_size)
            os.replace(file, target)
    except OSError as error:
        raise FileError(f"{target} cannot be written: {os_reason(error)}") from None
    return target


def _make_images(model: CNN, n: int) -> torch.Tensor:
    """Returns the input for fixed random images, (n, C, H, W), with the device and dtype of the weights."""
    generator = torch.Generator().manual_seed(n)
    if (preprocessing := model.metadata.preprocessing) is None:
        x = torch.randn(n, *model.spec.input, generator=generator)
    else:
        x = preprocessing.apply(torch.randint(256, (n, *model.spec.input), generator=generator, dtype=torch.uint8))
    return x.to(next(model.parameters()))


def _require_same_scores(model: CNN, run: Runner, target: Path, batch_size: int) -> None:
    x = _make_images(model, batch_size)
    with torch.no_grad():
        expected = model(x).float().cpu()
    scores = run(x).float().cpu()
    tolerance = _TOLERANCE * max(1.0, float(expected.abs().max()))
    if scores.shape != expected.shape or not (scores - expected).abs().max() <= tolerance:
        raise WeightsError(
            f"{target}: the exported network gives other scores than {model.spec.name} for {batch_size} images"
        )


def _any_batch_size() -> Any:
    """Returns ``dynamic_shapes`` of the one input."""
    return ({0: torch.export.Dim("batch")},)


def _write_torch(model: CNN, path: Path) -> Runner | None:
    exported = torch.export.export(model, (_make_images(model, 2),), dynamic_shapes=_any_batch_size())
    exported.example_inputs = None  # would be stored in the file, as a pickle
    torch.export.save(exported, path)
    module = torch.export.load(path).module()
    return lambda x: module(x).detach()


def _write_onnx(model: CNN, path: Path) -> Runner | None:
    torch.onnx.export(
        model,
        (_make_images(model, 2),),
        str(path),
        dynamo=True,
        dynamic_shapes=_any_batch_size(),
        input_names=["images"],
        output_names=["scores"],
        external_data=False,
        verbose=False,
    )
    if find_spec("onnxruntime") is None:
        return None
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["scores"], {"images": x.cpu().numpy()})[0])
