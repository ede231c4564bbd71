"""Export to files that other programs, libraries and readers use; the suffix names the format."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo.errors import FileError, InputError, WeightsError
from cnnzoo.files import os_reason, require_new
from cnnzoo.module_copy import in_eval_mode
from cnnzoo.modules import require_weights, unwrap
from cnnzoo.network import CNN
from cnnzoo.weights import export_formats
from cnnzoo.weights.export_formats import Runner
from cnnzoo.weights.twins import LIBRARIES

_TOLERANCE = 1e-4  # of the largest score


@dataclass(frozen=True)
class _Format:
    """A kind of file.

    Attributes:
        name: Its name in messages.
        write: Writes the file, and returns how it is run; None if that needs a package that is not installed.
        needs: The packages to write it.
        extra: The extra of cnnzoo that installs them.
        batch_sizes: Numbers of images with which the file is checked.
    """

    name: str
    write: Callable[..., Runner | None]
    needs: tuple[str, ...] = ()
    extra: str = ""
    batch_sizes: tuple[int, ...] = (1, 2, 5)


_FORMATS = {
    ".onnx": _Format("ONNX", export_formats.write_onnx, ("onnx", "onnxscript"), "onnx"),
    ".pt2": _Format("torch.export", export_formats.write_torch),
    ".pte": _Format("ExecuTorch", export_formats.write_executorch, ("executorch",), "executorch", batch_sizes=(1,)),
    ".py": _Format("plain PyTorch source", export_formats.write_source),
    ".pth": _Format("a state dict of torchvision or timm", export_formats.write_twin),
    ".safetensors": _Format("the same without a pickle", export_formats.write_twin),
}
_STATE_DICTS = (".pth", ".safetensors")


def export(
    model: nn.Module,
    path: str | PathLike[str],
    *,
    library: str | None = None,
    opset: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a network in eval mode in the form that the suffix of the file names.

    The file is read back and run: its scores must equal those of the network (ONNX: if onnxruntime is installed; a
    state dict for timm: if timm is).

    Args:
        model: A cnnzoo network; it is not changed.
        path: A file name; its suffix is the form, as for ``cnnzoo.export``.
        library: As for ``cnnzoo.export``.
        opset: As for ``cnnzoo.export``.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The path.

    Raises:
        InputError: If the model is not a cnnzoo network or has no weights, the suffix is not known, an argument does
            not apply to it, or a package is missing.
        FileError: If the file exists already or cannot be written.
        WeightsError: If the exported network gives other scores, or the library's network has other weights.
    """
    model = unwrap(model) if isinstance(model, nn.Module) else model
    if not isinstance(model, CNN):
        raise InputError(f"export expects a cnnzoo network, not {type(model).__name__}; load one with cnnzoo.load")
    target = Path(path)
    arguments = _arguments(target, library, opset)
    require_new(target, overwrite)
    require_weights(model, model.spec.name)
    kind = _FORMATS[target.suffix]
    require_packages(kind.name, kind.needs, kind.extra)
    network = in_eval_mode(model)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            file = Path(folder) / target.name
            run = kind.write(network, file, **arguments)
            if run is not None:
                for batch_size in kind.batch_sizes:
                    _require_same_scores(network, run, target, batch_size)
            os.replace(file, target)
    except OSError as error:
        raise FileError(f"{target} cannot be written: {os_reason(error)}") from None
    return target


def require_packages(what: str, packages: Sequence[str], extra: str) -> None:
    """Raises InputError if packages are not installed.

    Args:
        what: What needs them.
        packages: Their names.
        extra: The extra of cnnzoo that installs them.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise InputError(f'{what} needs {" and ".join(missing)}, not installed here: pip install "cnnzoo[{extra}]"')


def _arguments(target: Path, library: str | None, opset: int | None) -> dict[str, Any]:
    """Returns the arguments of the writer of a file; raises InputError if some do not apply to it."""
    if target.suffix not in _FORMATS:
        names = ", ".join(f"*{suffix} for {kind.name}" for suffix, kind in _FORMATS.items())
        raise InputError(f"{target}: name the file {names}")
    is_state_dict = target.suffix in _STATE_DICTS
    if is_state_dict and library is None:
        raise InputError(
            f"{target}: the tensors of a state dict have the names of a library; pass "
            f"{' or '.join(f'library={name!r}' for name in LIBRARIES)} (cnnzoo's own names: cnnzoo.save)"
        )
    if library is not None and (not is_state_dict or library not in LIBRARIES):
        raise InputError(
            f"library={library!r} does not apply to {target}; it is {' or '.join(map(repr, LIBRARIES))}, for a state "
            f"dict: *{' or *'.join(_STATE_DICTS)}"
        )
    if opset is not None and (target.suffix != ".onnx" or type(opset) is not int):
        raise InputError(f"opset={opset!r} does not apply to {target}; it is the number of an opset, for *.onnx")
    return ({"library": library} if is_state_dict else {}) | ({} if opset is None else {"opset": opset})


def _require_same_scores(model: CNN, run: Runner, target: Path, batch_size: int) -> None:
    x = export_formats.make_images(model, batch_size)
    with torch.no_grad():
        expected = model(x).float().cpu()
        scores = run(x).float().cpu()
    tolerance = _TOLERANCE * max(1.0, float(expected.abs().max()))
    if scores.shape != expected.shape or not (scores - expected).abs().max() <= tolerance:
        raise WeightsError(
            f"{target}: the exported network gives other scores than {model.spec.name} for {batch_size} images"
        )
