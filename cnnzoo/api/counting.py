"""Counts, pictures and differences of networks, and their speed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnzoo import measure
from cnnzoo.api.specs import Source, resolve
from cnnzoo.errors import InputError
from cnnzoo.files import atomic_write, require_new
from cnnzoo.measure import Comparison, CountReport
from cnnzoo.spec import Spec
from cnnzoo.stored_counts import stored_report

if TYPE_CHECKING:
    from torch import nn

    from cnnzoo.diff import Difference
    from cnnzoo.measure import Bench, Diagram
    from cnnzoo.measure.memory import TrainingMemory
    from cnnzoo.preprocessing import Preprocessing


def count(
    source: Source | nn.Module,
    input_size: Sequence[int] | None = None,
    *,
    inputs: Any = None,
    meta: bool = True,
    name: str | None = None,
    **knobs: Any,
) -> CountReport:
    """Counts parameters and multiply-adds exactly, per layer and in total, without computing anything.

    The counts of one image of the registered networks at their defaults ship with cnnzoo, and are read.

    Args:
        source: A registered name, a Spec, a saved network, or any ``nn.Module``, which is left unchanged.
        input_size: Shape of the input, batch included: (N, C, H, W). By default, for a network of the zoo, one image of
            its own size.
        inputs: Instead of ``input_size``, the input itself: a tensor, a tuple of arguments, or a mapping from names to
            arguments; only shapes and dtypes are used.
        meta: False runs the module with values, on copies of its weights, for control flow that depends on values.
        name: Name of the network in tables; by default that of its Spec or class.
        **knobs: As for ``create``, for a name or a Spec.

    Raises:
        InputError: If there is no input, or the module cannot run on it.
    """
    if isinstance(source, (str, Spec, PathLike)):
        spec = resolve(source, **knobs)
        is_one_image = input_size is None or (
            isinstance(input_size, Sequence) and tuple(input_size) == (1, *spec.input)
        )
        if is_one_image and inputs is None and meta and (report := stored_report(spec)) is not None:
            return report if name is None else dataclasses.replace(report, name=name)
    import torch
    from torch import nn

    from cnnzoo.modules import unwrap
    from cnnzoo.network import CNN

    if isinstance(source, nn.Module):
        if knobs:
            raise InputError(f"{', '.join(knobs)}: knobs are for a name or a Spec, not for a module that is built")
        model = unwrap(source)
    elif isinstance(source, (str, Spec, PathLike)):
        with torch.device("meta" if meta else "cpu"):
            model = CNN(spec)
    else:
        raise InputError(f"count expects a name, a Spec or an nn.Module, got {type(source).__name__}")
    if isinstance(model, CNN):
        name = model.spec.name if name is None else name
        if input_size is None and inputs is None:
            input_size = (1, *model.spec.input)
    return measure.count(model, input_size, inputs=inputs, name=name, meta=meta)


def summary(source: Source | nn.Module, input_size: Sequence[int] | None = None, **knobs: Any) -> None:
    """Prints the count of a network, layer by layer; repeated blocks are folded (see ``CountReport.table``)."""
    print(count(source, input_size, **knobs))


def draw(
    source: Source | nn.Module,
    path: str | PathLike[str] | None = None,
    input_size: Sequence[int] | None = None,
    *,
    detail: str | None = None,
    width: float = 5.5,
    columns: int | None = None,
    show: Sequence[str] = ("kernel", "activation"),
    legend: bool = True,
    dark: bool = False,
    **knobs: Any,
) -> Diagram:
    """Draws the architecture: maps as cuboids, vectors as bars, branches side by side, in lines of a page's width.

    Args:
        source: A registered name, a Spec, or any ``nn.Module`` (with ``input_size``).
        path: The file; its suffix is the format (``.svg``, ``.tex`` for TikZ, ``.pdf``, ``.png``). None writes none:
            notebooks display what is returned.
        input_size: As for ``count``.
        detail: ``"layer"`` draws each layer, ``"block"`` a block with branches as one box, ``"stage"`` blocks in a row
            whose maps have one size as one box. None is the most detailed that fits on a page.
        width: Width of the picture in inches; text has its size in points at this width. (To draw a network with the
            knob ``width``, give ``get_spec(name, width=2.0)`` as source.)
        columns: Maximum number of boxes in a line; None is as many as fit.
        show: What is written below a box, besides its name and shape: any of ``"kernel"`` (with stride),
            ``"activation"`` (with normalization), ``"parameters"``, ``"macs"``.
        legend: Whether to write the title and the legend.
        dark: Whether to draw on a dark ground.
        **knobs: As for ``create``, for a name or a Spec.

    Returns:
        The picture; ``save`` writes it to further files, ``to_svg`` and ``to_tikz`` return its text.

    Raises:
        InputError: If there is no input, the module cannot run on it, or the width is too small.
        UnknownNameError: If ``detail`` or ``show`` has another value.
        FileError: If the picture cannot be written.
    """
    report = count(source, input_size, **knobs)
    return measure.draw(report, path, detail=detail, width=width, columns=columns, show=show, legend=legend, dark=dark)


def diff(a: Source | nn.Module, b: Source | nn.Module, **knobs: Any) -> Difference:
    """Compares two networks block by block: what differs, and its effect on parameters and MACs.

    Args:
        a: A registered name, a Spec or a network of the zoo.
        b: Another.
        **knobs: As for ``create``, applied to both names or Specs.

    Raises:
        UnknownNameError: If a name, or a knob, is not known.
        SpecError: If one of them cannot be built.
    """
    from cnnzoo.diff import compare_specs

    return compare_specs(_spec_of(a, knobs), _spec_of(b, knobs))


def _spec_of(side: Source | nn.Module, knobs: Mapping[str, Any]) -> Spec:
    from torch import nn

    from cnnzoo.modules import unwrap
    from cnnzoo.network import CNN

    if not isinstance(side, nn.Module):
        return resolve(side, **knobs)
    if not isinstance(model := unwrap(side), CNN):
        raise InputError(f"diff compares networks of cnnzoo, whose blocks are known, not {type(model).__name__}")
    return model.spec


def write_page(
    report: CountReport | Comparison,
    path: str | PathLike[str],
    memory: TrainingMemory | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Writes a count or a comparison as one self-contained HTML page.

    Args:
        report: The count or comparison.
        path: The file.
        memory: The memory of a training step, for the page of a count.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The file.

    Raises:
        FileError: If it exists, or cannot be written.
    """
    target = Path(path)
    require_new(target, overwrite)
    with atomic_write(target) as file:
        page = report.to_page(memory) if isinstance(report, CountReport) else report.to_page()
        file.write(page.encode())
    return target


def bench(
    *sources: Source | nn.Module,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 1,
    train: bool = False,
    device: str = "cpu",
    precision: str = "fp32",
    seconds: float = 2.0,
) -> Bench:
    """Measures the speed of networks on this machine, beside their counts and the speed of a matrix product.

    Args:
        *sources: Names, Specs, or any modules.
        preprocessing: The size and channels of images, for modules whose metadata have no preprocessing.
        batch_size: Batch size.
        train: Whether to time a forward and a backward pass; else a forward pass in eval mode.
        device: The device; ``"auto"`` is a GPU if there is one.
        precision: ``"fp32"`` or ``"bf16"``.
        seconds: Approximate duration of each measurement.

    Raises:
        InputError: If the device does not exist, no network is given, or the images of a module are not known.
    """
    from torch import nn

    from cnnzoo.api.sources import create, image_shape, name_of
    from cnnzoo.device import resolve_device
    from cnnzoo.fields import check_positive_int
    from cnnzoo.modules import require_weights, unwrap

    models = [source if isinstance(source, nn.Module) else create(source, seed=0) for source in sources]
    for model in models:
        require_weights(model, name_of(model))
    size = check_positive_int("batch_size", batch_size)
    return measure.bench(
        [(name_of(model), unwrap(model), (size, *image_shape(model, preprocessing))) for model in models],
        train=train,
        device=resolve_device(device),
        precision=precision,
        seconds=seconds,
    )
