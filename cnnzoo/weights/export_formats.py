"""The writers of exported files; each returns how the file is run, to check its scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from cnnzoo.errors import InputError
from cnnzoo.network import CNN
from cnnzoo.weights.source_code import class_name, make_source
from cnnzoo.weights.twins import build_twin, read_state_dict, twin_state_dict, write_state_dict

INPUT_NAME, OUTPUT_NAME = "images", "scores"  # of an ONNX file

Runner = Callable[[torch.Tensor], torch.Tensor]  # runs an exported network: images (N, C, H, W) to scores


def make_images(model: CNN, n: int) -> torch.Tensor:
    """Returns the input for fixed random images, (n, C, H, W), with the device and dtype of the weights."""
    generator = torch.Generator().manual_seed(n)
    if (preprocessing := model.metadata.preprocessing) is None:
        x = torch.randn(n, *model.spec.input, generator=generator)
    else:
        x = preprocessing.apply(torch.randint(256, (n, *model.spec.input), generator=generator, dtype=torch.uint8))
    return x.to(next(model.parameters()))


def _any_batch_size() -> Any:
    """Returns ``dynamic_shapes`` of the one input."""
    return ({0: torch.export.Dim("batch")},)


def write_torch(model: CNN, path: Path) -> Runner | None:
    """Writes a program of ``torch.export``."""
    exported = torch.export.export(model, (make_images(model, 2),), dynamic_shapes=_any_batch_size())
    exported.example_inputs = None  # would be stored in the file, as a pickle
    torch.export.save(exported, path)
    return torch.export.load(path).module()


def write_source(model: CNN, path: Path) -> Runner | None:
    """Writes the network as plain PyTorch source."""
    source = make_source(model)
    path.write_text(source, encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": path.stem}
    exec(compile(source, str(path), "exec"), namespace)
    module = namespace[class_name(model.spec.name)]()
    module.load_state_dict(model.state_dict())
    module.to(next(model.parameters()))
    run: Runner = module.eval()
    return run


def write_twin(model: CNN, path: Path, library: str) -> Runner | None:
    """Writes the state dict of the same network in a library.

    Raises:
        InputError: If the library does not have the network.
        WeightsError: If its network has other weights.
    """
    write_state_dict(path, twin_state_dict(model, library))
    twin = build_twin(model, library)
    if twin is None:
        return None
    twin.load_state_dict(read_state_dict(path), assign=True)
    run: Runner = twin.to(next(model.parameters())).eval()
    return run


def write_executorch(model: CNN, path: Path) -> Runner | None:
    """Writes a program of ExecuTorch for one image, with the kernels of XNNPACK.

    Raises:
        InputError: If ExecuTorch has no kernel for an operator of the network.
    """
    exir: Any = import_module("executorch.exir")
    partition: Any = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    with silence("torch", "executorch"):
        exported = torch.export.export(model, (make_images(model, 1),))
        program = exir.to_edge_transform_and_lower(exported, partitioner=[partition.XnnpackPartitioner()])
        path.write_bytes(program.to_executorch().buffer)
    runtime: Any = import_module("executorch.runtime")
    try:
        method = runtime.Runtime.get().load_program(path).load_method("forward")
    except RuntimeError as error:
        raise InputError(
            f"ExecuTorch cannot run {model.spec.name} ({error}): its log names the operator without a kernel, such as "
            "avg_pool3d of an LRN block; export to *.onnx or *.pt2"
        ) from None
    return lambda x: torch.as_tensor(method.execute([x])[0])


# --- ONNX ---


def write_onnx(model: CNN, path: Path, opset: int | None = None) -> Runner | None:
    """Writes ONNX.

    Raises:
        InputError: If the exporter cannot write that opset, or onnxruntime cannot run it.
    """
    onnx: Any = import_module("onnx")
    latest, versions = onnx.defs.onnx_opset_version(), f"torch {torch.__version__} and onnx {onnx.__version__}"
    if opset is not None and not 1 <= opset <= latest:
        raise InputError(f"opset={opset}: {versions} write opsets up to {latest}")
    with silence("torch.onnx", "onnxscript"):  # the exporter reports its own internals
        torch.onnx.export(
            model,
            (make_images(model, 2),),
            str(path),
            dynamo=True,
            dynamic_shapes=_any_batch_size(),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            opset_version=opset,
            external_data=False,
            verbose=False,
        )
    written = next(one.version for one in onnx.load(path, load_external_data=False).opset_import if not one.domain)
    if opset not in (None, written):  # the exporter does not say that it keeps its own
        raise InputError(
            f"opset={opset}: {versions} write {model.spec.name} with opsets from {written} to {latest}, and cannot "
            "convert it to this one"
        )
    return run_onnx(path) if find_spec("onnxruntime") else None


def run_onnx(path: Path) -> Runner:
    """Returns the function that runs an ONNX file on the CPU.

    Raises:
        InputError: If the installed onnxruntime cannot run it.
    """
    onnxruntime: Any = import_module("onnxruntime")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime, a class for each reason
        reason = next(iter(str(error).splitlines()), "")[:300]
        raise InputError(
            f"onnxruntime {onnxruntime.__version__} cannot run the file: {reason}; choose a lower opset=, or update it"
        ) from None
    return lambda x: torch.from_numpy(session.run([OUTPUT_NAME], {INPUT_NAME: x.cpu().numpy()})[0])


@contextmanager
def silence(*names: str) -> Iterator[None]:
    """Suppresses the log messages of packages; not their warnings, whose filters all threads share."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
