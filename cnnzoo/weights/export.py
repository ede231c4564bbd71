"""Networks in formats that other programs run."""

from __future__ import annotations

import os
import tempfile
import warnings
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from cnnzoo.errors import FileError, InputError, WeightsError
from cnnzoo.network import CNN
from cnnzoo.serialization import exists

ONNX, TORCH = ".onnx", ".pt2"
_BATCHES = (1, 2, 5)  # the numbers of images that what was exported is checked with
_CLOSE = 1e-4  # of the largest score


def export(model: CNN, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Writes a network for other programs to run, for any number of images, in eval mode.

    What was written is read again and run: an ONNX file by onnxruntime where that is installed, and its scores must be
    the network's.

    Args:
        model: A network of the zoo; it is left as it was.
        path: A file name: ``.onnx`` for ONNX (needs ``pip install "cnnzoo[onnx]"``), ``.pt2`` for ``torch.export``.
        overwrite: Whether a file that is there may be replaced.

    Returns:
        Where it was written.

    Raises:
        InputError: If the model is none, the suffix is another, or what it takes is not installed.
        FileError: If something is there already, or it cannot be written.
        WeightsError: If what was written gives other scores.
    """
    if not isinstance(model, CNN):
        raise InputError(f"export takes a network of the zoo, not {type(model).__name__}; cnnzoo.load loads one")
    target = Path(path)
    if target.suffix not in (ONNX, TORCH):
        raise InputError(f"{target}: name the file *{ONNX} for ONNX, or *{TORCH} for torch.export")
    if exists(target) and not overwrite:
        raise FileError(f"{target} exists already; name another file, or say overwrite=True (--overwrite)")
    first = next(model.parameters())
    if first.is_meta:
        raise InputError(f"{model.spec.name} is on the meta device and has no weights; create it on another")
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if target.suffix == ONNX and missing:
        raise InputError(f'ONNX needs {" and ".join(missing)}, not installed here: pip install "cnnzoo[onnx]"')
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as made:
            written = Path(made) / target.name
            run = (_write_onnx if target.suffix == ONNX else _write_torch)(model, written)
            for images in _BATCHES if run is not None else ():
                _require_same(model, run, target, images)
            os.replace(written, target)
    except OSError as problem:
        raise FileError(f"{target} cannot be written: {problem.strerror or problem}") from None
    finally:
        for module, mode in modes.items():
            module.training = mode
    return target


def _images(model: CNN, n: int) -> torch.Tensor:
    """Images (n, C, H, W) of noise, the same each time, as the network's weights take them."""
    noise = torch.randn(n, *model.spec.input, generator=torch.Generator().manual_seed(n))
    return noise.to(next(model.parameters()))


def _require_same(model: CNN, run: Any, target: Path, n: int) -> None:
    x = _images(model, n)
    with torch.no_grad():
        ours = model(x).float().cpu()
    theirs = run(x).float().cpu()
    if theirs.shape != ours.shape or not (theirs - ours).abs().max() <= _CLOSE * max(1.0, float(ours.abs().max())):
        raise WeightsError(f"{target}: what was exported gives other scores than {model.spec.name} for {n} images")


def _any_number() -> Any:
    return ({0: torch.export.Dim("batch")},)


def _write_torch(model: CNN, path: Path) -> Any:
    exported = torch.export.export(model, (_images(model, 2),), dynamic_shapes=_any_number())
    exported.example_inputs = None  # or they would be kept in the file, as a pickle
    torch.export.save(exported, path)
    module = torch.export.load(path).module()
    return lambda x: module(x).detach()


def _write_onnx(model: CNN, path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, on its own affairs
        torch.onnx.export(
            model,
            (_images(model, 2),),
            str(path),
            dynamo=True,
            dynamic_shapes=_any_number(),
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
