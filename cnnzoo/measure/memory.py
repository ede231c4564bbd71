"""The memory of a training step, moment by moment, computed from a count."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from os import PathLike
from typing import TYPE_CHECKING, Any

from cnnzoo.errors import InputError, unknown
from cnnzoo.measure.html_page import html_page, svg_part
from cnnzoo.measure.tables import Printable, Table, human

if TYPE_CHECKING:
    from cnnzoo.measure.report import CountReport, LayerCount

STATES = {"sgd": 0, "momentum": 1, "adam": 2, "adamw": 2}  # values that the optimizer keeps per trainable parameter
PRECISIONS = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes of an activation
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_INDEX_BYTES = 8  # of a max pool: int64
_MAX_BATCH_SIZE = 2**40


@dataclass(frozen=True)
class Moment:
    """What exists at one moment of a training step, in bytes, besides parameters and the state of the optimizer.

    Attributes:
        name: ``"forward of conv1"``, ``"loss"``, ``"backward of conv1"`` or ``"update"``.
        gradients: Gradients of parameters.
        activations: The batch of images, and what autograd has saved and not freed yet.
        temporaries: Outputs that are not saved, gradients of outputs, and copies of weights in low precision.
    """

    name: str
    gradients: int
    activations: int
    temporaries: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.gradients + self.activations + self.temporaries


@dataclass(frozen=True)
class TrainingMemory(Printable):
    """The memory of a training step, in bytes.

    Gradients and activations do not all exist at once: autograd frees the activations of a layer when it has its
    gradient. ``gradients``, ``activations`` and ``temporaries`` are those of the moment with the largest sum, so that
    the five terms add up to ``total``; ``largest`` has the largest value of each.

    Attributes:
        name: Name of the model.
        settings: Batch size, optimizer and precision, as printed.
        parameters: Parameters and buffers.
        optimizer: The state that the optimizer keeps.
        moments: The moments of the step, in order.
    """

    name: str
    settings: str
    parameters: int
    optimizer: int
    moments: tuple[Moment, ...]

    @property
    def peak(self) -> Moment:
        """The moment with the largest sum."""
        return max(self.moments, key=lambda moment: moment.total)

    @property
    def gradients(self) -> int:
        """Gradients of parameters at the peak."""
        return self.peak.gradients

    @property
    def activations(self) -> int:
        """The batch of images, and activations saved for backward, at the peak."""
        return self.peak.activations

    @property
    def temporaries(self) -> int:
        """What exists at the peak for a few operators: gradients of outputs, outputs that are not saved."""
        return self.peak.temporaries

    @property
    def total(self) -> int:
        """The peak."""
        return self.parameters + self.optimizer + self.peak.total

    @property
    def largest(self) -> dict[str, int]:
        """The largest value of each term; those of different moments do not add up to ``total``."""
        terms = {term: max(getattr(moment, term) for moment in self.moments) for term in _TERMS}
        return {"parameters": self.parameters, "optimizer": self.optimizer, **terms}

    def table(self) -> Table:
        """Returns the table of the five terms."""
        largest = self.largest
        rows = [
            (term, f"{human(getattr(self, term))}B", f"{100 * getattr(self, term) / self.total:.1f} %",
             f"{human(largest[term])}B", _EXPLANATIONS[term])
            for term in _EXPLANATIONS
        ]  # fmt: skip
        return Table(
            title=f"Memory of a training step: {self.name}, {self.settings}",
            headers=("", "at the peak", "share", "at most", "what"),
            rows=rows,
            total=("total", f"{human(self.total)}B", "", "", f"{self.total:,} bytes"),
            notes=[
                f"peak: {self.peak.name}",
                "not included: workspaces of kernels, memory that the allocator or the CUDA context reserves, batches "
                "that a loader prepares",
            ],
        )

    def tables(self) -> Sequence[Table]:
        """Returns the one table."""
        return [self.table()]

    def to_dict(self) -> dict[str, Any]:
        """Returns the terms, the total and the moments as plain values."""
        terms = {term: getattr(self, term) for term in (*_EXPLANATIONS, "total")}
        moments = [dataclasses.asdict(moment) for moment in self.moments]
        return {"name": self.name, "settings": self.settings, **terms, "peak": self.peak.name, "moments": moments}

    def to_json(self) -> str:
        """Returns terms, total and moments as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def page_parts(self) -> list[str]:
        """Returns the picture and the table as HTML fragments."""
        from cnnzoo.measure.memory_plot import memory_svg

        return [svg_part(memory_svg(self)), self.to_html()]

    def to_page(self) -> str:
        """Returns a self-contained HTML page with the table and the picture."""
        return html_page(self.name, self.page_parts())

    def plot(self, path: str | PathLike[str], memory: int | str | None = None) -> None:
        """Draws what exists at each moment of the step.

        Args:
            path: The file; its suffix is the format (``.png``, ``.svg``, ``.pdf``).
            memory: The memory of the device, drawn as a line: bytes, or a text such as ``"8 GB"``.

        Raises:
            FileError: If the file cannot be written.
            InputError: If ``memory`` is neither.
        """
        from cnnzoo.measure.memory_plot import plot_memory

        plot_memory(self, path, None if memory is None else parse_bytes(memory))


_TERMS = ("gradients", "activations", "temporaries")
_EXPLANATIONS = {
    "parameters": "parameters and buffers",
    "gradients": "of the parameters",
    "optimizer": "state that is kept between steps",
    "activations": "images, and what is saved for backward",
    "temporaries": "gradients of outputs, unsaved outputs",
}


def training_memory(
    report: CountReport,
    optimizer: str | int = "sgd",
    batch_size: int | None = None,
    precision: str = "fp32",
    frozen: str | Sequence[str] = (),
) -> TrainingMemory:
    """Computes the memory of a training step, see ``CountReport.training_memory``."""
    states = _states(optimizer)
    counted = report.batch_size
    batch_size = counted if batch_size is None else _check_count("batch_size", batch_size, 1)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    patterns = (frozen,) if isinstance(frozen, str) else tuple(frozen)
    params = report.params
    bytes_per_value = params.bytes / params.total if params.bytes else 4.0
    layers = _trained_layers(report, patterns, bytes_per_value)
    factor = min(1.0, PRECISIONS[precision] / bytes_per_value)
    images = report.input_values * bytes_per_value
    moments = tuple(_Step(layers, images, batch_size / counted, factor).run())
    trainable = sum(layer.gradient for layer in layers)
    name = optimizer if isinstance(optimizer, str) else f"optimizer with {states} values per parameter"
    settings = f"batch size {batch_size}, {name}, {precision}"
    return TrainingMemory(
        name=report.name,
        settings=settings + (f", frozen {', '.join(patterns)}" if patterns else ""),
        parameters=params.bytes + round(params.buffers * bytes_per_value),
        optimizer=states * trainable,
        moments=moments,
    )


def max_batch_size(
    report: CountReport,
    memory: int | str,
    optimizer: str | int = "sgd",
    precision: str = "fp32",
    frozen: str | Sequence[str] = (),
) -> int:
    """Computes the largest batch size that fits, see ``CountReport.max_batch_size``."""
    available = parse_bytes(memory)

    def fits(batch_size: int) -> bool:
        return training_memory(report, optimizer, batch_size, precision, frozen).total <= available

    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
        if high > _MAX_BATCH_SIZE:
            raise InputError(f"the memory of {report.name} does not grow with the batch size")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def parse_bytes(memory: int | str) -> int:
    """Returns a number of bytes: of ``"8 GB"``, 8 * 10**9; of ``"8 GiB"``, 8 * 2**30.

    Raises:
        InputError: If it is neither a positive number nor such a text.
    """
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", memory.upper())
        value = float(match[1]) * _UNITS[match[2]] if match and match[2] in _UNITS else 0
    else:
        value = memory if isinstance(memory, (int, float)) and math.isfinite(memory) else 0
    if value < 1:
        raise InputError(f"memory must be a number of bytes, or a text such as '8 GB' or '24 GiB', not {memory!r}")
    return int(value)


def _states(optimizer: str | int) -> int:
    """Returns how many values an optimizer keeps per trainable parameter."""
    if isinstance(optimizer, str) and optimizer in STATES:
        return STATES[optimizer]
    if isinstance(optimizer, str) and not optimizer.strip().lstrip("-").isdigit():
        names = ", ".join(map(repr, STATES))
        raise InputError(
            f"the state of optimizer {optimizer!r} is not known; expected one of {names}, or the number of values that "
            "it keeps per parameter, such as optimizer=2"
        )
    return _check_count("optimizer", int(optimizer) if isinstance(optimizer, str) else optimizer, 0)


def _check_count(name: str, value: Any, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= _MAX_BATCH_SIZE * 2:
        raise InputError(f"{name} must be a whole number, at least {minimum}, not {value!r}")
    return value


# --- what a layer needs for its backward ---


@dataclass(eq=False)
class _Layer:
    """A layer of a training step; bytes of the batch that was counted, in the precision of the parameters.

    Attributes:
        name: Its label, or the name of its module.
        inputs: Indices of the layers that it reads.
        out: Bytes of its output.
        saved: Bytes that autograd saves, without indices of max pools.
        indices: Bytes of such indices.
        weights: Bytes of the weights of its products, which autocast copies.
        gradient: Bytes of the gradients of its parameters.
        has_backward: Whether a gradient flows through it.
        makes_gradient: Whether its backward writes new gradients; a sum and a view pass theirs on.
        saves_output: Whether what it saves is its output rather than its input.
    """

    name: str
    inputs: tuple[int, ...]
    out: float
    saved: float
    indices: float
    weights: float
    gradient: int
    has_backward: bool
    makes_gradient: bool
    saves_output: bool


def _trained_layers(report: CountReport, patterns: Sequence[str], bytes_per_value: float) -> list[_Layer]:
    """Returns the layers as they are trained with some of them frozen."""
    frozen = _match_layers(report.layers, patterns)
    readers = Counter(source for layer in report.layers for source in layer.inputs)
    saved_by_readers: set[int] = set()
    layers: list[_Layer] = []
    for i, count in enumerate(report.layers):
        is_product = bool(count.macs) and not count.elementwise and not count.pooling
        is_frozen = i in frozen
        trainable = 0 if is_frozen else count.trainable
        has_backward = bool(trainable) or any(layers[j].has_backward for j in count.inputs)
        out = math.prod(count.out_shape) * bytes_per_value
        indices = min(count.saved_bytes, _INDEX_BYTES * math.prod(count.out_shape)) if _is_max_pool(count) else 0
        saved: float = count.saved_bytes - indices
        if not has_backward:
            saved = indices = 0
        elif is_frozen and is_product and all(readers[j] == 1 for j in count.inputs):
            saved = 0  # its input, which only the gradient of its weights needs
        elif trainable and patterns:
            sources = [j for j in count.inputs if not layers[j].has_backward and j not in saved_by_readers]
            saved_by_readers.update(sources)  # instead of by the frozen layers that wrote them
            saved = max(saved, sum(layers[j].out for j in sources))
        layers.append(
            _Layer(
                name=count.label or count.name or count.kind,
                inputs=count.inputs,
                out=out,
                saved=saved,
                indices=indices,
                weights=count.param_bytes if count.macs else 0,
                gradient=round(trainable * bytes_per_value),
                has_backward=has_backward,
                makes_gradient=bool(count.saved_bytes or count.params or count.macs),
                saves_output=not (count.params or count.macs or count.pooling),
            )
        )
    return layers


def _is_max_pool(count: LayerCount) -> bool:
    return bool(count.pooling) and not count.connections


def _match_layers(layers: Sequence[LayerCount], patterns: Sequence[str]) -> set[int]:
    """Returns the indices of the layers with parameters that patterns match: by label, or by a module around them.

    Raises:
        UnknownNameError: If a pattern matches none.
    """
    names: dict[int, set[str]] = {}
    for i, layer in enumerate(layers):
        if layer.params:
            parts, labels = layer.name.split("."), layer.label.split("/") if layer.label else []
            names[i] = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
            names[i] |= {"/".join(labels[:n]) for n in range(1, len(labels) + 1)}
    matches: set[int] = set()
    for pattern in patterns:
        own = {i for i, aliases in names.items() if any(fnmatchcase(alias, pattern) for alias in aliases)}
        if not own:
            raise unknown("label or layer with parameters", pattern, set().union(*names.values()))
        matches |= own
    return matches


# --- the step ---


@dataclass(eq=False)
class _Buffer:
    """A gradient of an output, which several layers may share: those of a sum.

    Attributes:
        size: Its bytes.
        users: Number of layers whose output has this gradient.
    """

    size: float
    users: int = 0


@dataclass(eq=False)
class _Step:
    """A training step: forward, loss, backward, update.

    Args:
        layers: The layers.
        images: Bytes of the batch that was counted.
        scale: Batch size of the step, relative to that of the count.
        factor: Bytes of an activation, relative to the precision of the parameters.

    Attributes:
        gradients: Bytes of gradients that exist now; so ``activations`` and ``temporaries``.
        saved: Bytes that autograd saves in each layer.
        logits: Bytes of the output, in the precision of the parameters.
    """

    layers: list[_Layer]
    images: float
    scale: float
    factor: float
    gradients: float = 0
    activations: float = 0
    temporaries: float = 0
    saved: list[float] = field(default_factory=list)
    logits: float = 0

    def run(self) -> Iterator[Moment]:
        """Yields the moments of the step, in order."""
        self.activations = self.images * self.scale
        yield from self._forward()
        yield from self._backward()
        yield self._moment("update")

    def _moment(self, name: str, more: float = 0) -> Moment:
        return Moment(name, round(self.gradients), round(self.activations), round(self.temporaries + more))

    def _out(self, index: int) -> float:
        return self.layers[index].out * self.scale * self.factor

    def _copies(self, layer: _Layer) -> float:
        """Returns the bytes of copies of weights in low precision, which exist until the backward."""
        return layer.weights * self.factor if self.factor < 1 and layer.has_backward else 0

    def _forward(self) -> Iterator[Moment]:
        last_reader = {source: i for i, layer in enumerate(self.layers) for source in layer.inputs}
        unsaved: dict[int, float] = {}  # outputs that a later layer reads
        for i, layer in enumerate(self.layers):
            saved = layer.saved * self.scale * self.factor
            if not layer.inputs and self.factor == 1 and layer.saved >= self.images:
                saved -= self.images * self.scale  # they exist anyway
            new = saved
            self.temporaries += self._copies(layer)
            unsaved[i] = self._out(i)
            for j in (i, *layer.inputs) if layer.saves_output else (*layer.inputs, i):
                if 0 < unsaved.get(j, 0) <= new * 1.001:
                    new -= unsaved.pop(j)
            self.saved.append(saved + layer.indices * self.scale)
            self.activations += self.saved[i]
            yield self._moment(f"forward of {layer.name}", sum(unsaved.values()))
            for j in layer.inputs:
                if last_reader[j] == i:
                    unsaved.pop(j, None)
        self.logits = self._out(len(self.layers) - 1) / self.factor if self.layers else 0
        self.temporaries += self.logits  # the training loop has them until the end of the step
        self.activations += self.logits  # its logarithm of the softmax
        yield self._moment("loss")

    def _backward(self) -> Iterator[Moment]:
        gradients: dict[int, _Buffer] = {}  # of outputs
        last = len(self.layers) - 1
        if self.layers and self.layers[last].has_backward:
            gradients[last] = _Buffer(self.logits, 1)
            self.temporaries += self.logits
        yield self._moment("backward of the loss", self.logits)
        self.activations -= self.logits
        for i in range(last, -1, -1):
            layer, gradient = self.layers[i], gradients.pop(i, None)
            copies = self._copies(layer)
            if gradient is not None:
                transient = layer.gradient * self.factor if copies else 0.0  # the gradient in low precision
                self.gradients += 0 if copies else layer.gradient
                for j in layer.inputs:
                    if self.layers[j].has_backward:
                        transient += self._add_gradient(gradients, i, j, gradient)
                yield self._moment(f"backward of {layer.name}", transient)
                self._release(gradient)
            self.activations -= self.saved[i]
            if copies:  # freed before the gradient is converted
                self.temporaries -= copies
                self.gradients += layer.gradient
                yield self._moment(f"backward of {layer.name}", layer.gradient * self.factor)

    def _add_gradient(self, gradients: dict[int, _Buffer], reader: int, source: int, gradient: _Buffer) -> float:
        """Adds the gradient of a layer's input to that of the output it reads.

        Returns:
            Bytes that exist only during the addition.
        """
        size = self._out(source)
        passes_on = not self.layers[reader].makes_gradient
        former = gradients.get(source)
        if former is None:
            gradients[source] = gradient if passes_on else _Buffer(size)
            gradients[source].users += 1
            self.temporaries += 0 if passes_on else size
            return 0
        transient = 0 if passes_on else size
        if former.users > 1:  # not added in place
            gradients[source] = _Buffer(size, 1)
            self.temporaries += size
            self._release(former)
        return transient

    def _release(self, gradient: _Buffer) -> None:
        gradient.users -= 1
        if gradient.users == 0:
            self.temporaries -= gradient.size
