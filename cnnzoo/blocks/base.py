"""Blocks: the rows of a paper's table, as frozen values that know which torch modules they stand for.

A row never says how many channels it takes or how large a flattened map is: ``chain`` runs each module on
the meta device as it is made and lets torch say the next shape.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from cnnzoo.errors import SpecError, unknown
from cnnzoo.initializers import initialiser

Shape = tuple[int, ...]  # one sample, no batch: (C, H, W) or (C,)

LARGEST = 2**24  # no classic needs a larger number in a row; a file that claims one is broken or hostile


class ScaledTanh(nn.Module):
    """``1.7159 * tanh(2 x / 3)``, the squashing function of LeCun, Bottou, Bengio, Haffner 1998 (appendix A)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of any shape."""
        return 1.7159 * torch.tanh(x * (2 / 3))


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "scaled_tanh": ScaledTanh,
}

# word -> (what makes one for so many maps, the argument where none is written behind a colon)
NORMS: dict[str, tuple[Callable[[int, float], nn.Module], float]] = {
    "batch": (lambda channels, eps: nn.BatchNorm2d(channels, eps=eps), 1e-5),
    "instance": (lambda channels, eps: nn.InstanceNorm2d(channels, eps=eps, affine=True), 1e-5),
    "group": (lambda channels, groups: nn.GroupNorm(math.gcd(int(groups), channels), channels), 32),
    "layer": (lambda channels, eps: nn.GroupNorm(1, channels, eps=eps), 1e-5),
}


def normaliser(norm: str) -> Callable[[int], nn.Module]:
    """What makes a normalisation for so many maps: ``"batch"``, ``"batch:0.001"`` (its eps), ``"group:8"`` (groups).

    Raises:
        UnknownNameError: If the word is not known.
        SpecError: If what stands behind the colon is no number above 0.
    """
    kind, _, argument = norm.partition(":")
    if kind not in NORMS:
        raise unknown("norm", kind, NORMS)
    make, default = NORMS[kind]
    try:
        value = float(argument) if argument else default
    except ValueError:
        value = math.nan
    if not 0 < value < LARGEST or (kind == "group" and value != int(value)):
        raise SpecError(f"norm {norm!r}: {argument!r} is no number that it takes; write {kind}:{default:g}")
    return lambda channels: make(channels, value)


def _followed(module: nn.Module, maps: int, norm: str | None, activation: str | None) -> list[nn.Module]:
    """A module with what a row may put after it."""
    modules = [module] if norm is None else [module, normaliser(norm)(maps)]
    return modules if activation is None else [*modules, _activation(activation)]


def _activation(name: str) -> nn.Module:
    """An activation of a value that nothing else needs, which it may write over."""
    module = ACTIVATIONS[name]()
    if hasattr(module, "inplace"):
        module.inplace = True  # type: ignore[assignment]
    return module


# --- the kinds of field a row may have; each checks itself when a row is made, also from a file ---


def whole(default: Any = dataclasses.MISSING, *, least: int = 1, pair: bool = False, optional: bool = False) -> Any:
    """A whole number of at least ``least`` (or a pair of them: height, width)."""

    def is_one(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST

    def check(value: object) -> str | None:
        if (optional and value is None) or is_one(value):
            return None
        if pair and isinstance(value, tuple) and len(value) == 2 and all(map(is_one, value)):
            return None
        return f"a whole number from {least} to {LARGEST}" + (", or a pair of them" if pair else "")

    return field(default=default, metadata={"check": check})


def number(default: float, *, least: float = -math.inf, below: float = math.inf, optional: bool = False) -> Any:
    """A real number in [least, below)."""

    def check(value: object) -> str | None:
        if optional and value is None:
            return None
        is_real = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
        if is_real and least <= value < below:  # type: ignore[operator]
            return None
        return "a finite number" if math.isinf(below) else f"a number from {least:g} to below {below:g}"

    return field(default=None if optional else default, metadata={"check": check})


def flag(default: bool) -> Any:
    """True or False."""
    return field(default=default, metadata={"check": lambda v: None if isinstance(v, bool) else "True or False"})


def word(default: Any, known: Sequence[str], *, optional: bool = False) -> Any:
    """One of the known words."""

    def check(value: object) -> str | None:
        if (optional and value is None) or (isinstance(value, str) and value in known):
            return None
        return "one of " + ", ".join([*map(repr, known), *(["None"] if optional else [])])

    return field(default=default, metadata={"check": check})


def norm_word(default: str | None, *, optional: bool = False) -> Any:
    """A normalisation by name (see ``normaliser``)."""

    def check(value: object) -> str | None:
        if isinstance(value, str):
            normaliser(value)
        elif not (optional and value is None):
            return "the name of a normalisation, such as 'batch'"
        return None

    return field(default=default, metadata={"check": check})


def scheme() -> Any:
    """Initial weights by name (see ``cnnzoo.initializers``); None leaves torch's own."""

    def check(value: object) -> str | None:
        if isinstance(value, str):
            initialiser(value)
        elif value is not None:
            return "the name of a scheme, such as 'xavier_uniform'"
        return None

    return field(default=None, metadata={"check": check})


@dataclass(frozen=True, repr=False)
class Block:
    """One row of a table: a value, not a module.

    Subclasses are frozen dataclasses that say in ``unroll`` which modules they stand for. A subclass is known
    by its class name in JSON as soon as its module is imported.

    Attributes:
        label: The row's name, unique in its Spec; filled in by the Spec where it is left empty.
    """

    label: str = field(default="", kw_only=True)

    stem: ClassVar[str] = "row"  # what a label is made of: "conv" in conv1
    weighted: ClassVar[bool] = False  # does this row count a layer up, as conv1, conv2, fc3 do?

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if "check" in item.metadata and (wanted := item.metadata["check"](getattr(self, item.name))):
                where = f" (row {self.label!r})" if self.label else ""
                raise SpecError(
                    f"{type(self).__name__}{where}: {item.name} must be {wanted}, not {getattr(self, item.name)!r}"
                )
        if not isinstance(self.label, str) or "/" in self.label:
            raise SpecError(f"{type(self).__name__}: a label is text without '/', not {self.label!r}")

    def __repr__(self) -> str:
        shown = []
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            text = repr(value)
            if isinstance(value, tuple) and len(text) > 60 and not self.inside():  # a table, codes
                text = f"<{len(value)} of them>"
            if item.default is dataclasses.MISSING:
                shown.append(text)
            elif item.name != "label" and value != item.default:
                shown.append(f"{item.name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def unroll(self, shape: Shape) -> list[nn.Module]:
        """The modules that this row stands for, in order.

        Args:
            shape: What comes in, one sample: (C, H, W), or (C,) once flattened.

        Raises:
            SpecError: If the row cannot take that shape.
        """
        raise NotImplementedError

    def inside(self) -> tuple[tuple[Block, ...], ...]:
        """The rows inside this one, path by path (most rows have none)."""
        return ()

    def with_inside(self, paths: tuple[tuple[Block, ...], ...]) -> Block:
        """This row with other rows inside."""
        raise NotImplementedError(
            f"{type(self).__name__} has rows inside, and must say in with_inside how to change them"
        )

    def widened(self, factor: float, multiple: int) -> Block:
        """This row with its hidden width scaled and rounded to a multiple (most rows have none).

        Raises:
            SpecError: If the row has a width that cannot be scaled.
        """
        return self

    def with_classes(self, classes: int) -> Block:
        """This row for another number of classes (most rows know none).

        Raises:
            SpecError: If the row scores classes and cannot score another number of them.
        """
        return self


def _round_width(width: int, factor: float, multiple: int) -> int:
    return max(multiple, round(width * factor / multiple) * multiple)


def _require_maps(shape: Shape) -> None:
    if len(shape) != 3:
        raise SpecError("it needs maps (C, H, W); move it before the Flatten row, or drop it")


def _layer(kind: type[nn.Module], *sizes: Any, init: str | None, bias_init: float | None, **settings: Any) -> nn.Module:
    """A module with its initial weights; torch's own are not drawn where they would be written over."""
    own = init is None or (bias_init is None and settings.get("bias", True))
    if own or sizes[0] * sizes[1] < 2**15:  # drawing few weights twice is quicker than leaving it out
        module = kind(*sizes, **settings)
    else:
        module = nn.utils.skip_init(kind, *sizes, **settings, device=torch.get_default_device())  # type: ignore[no-untyped-call]
    if init is not None:
        initialiser(init)(module.get_parameter("weight"))
    if bias_init is not None and getattr(module, "bias", None) is not None:
        nn.init.constant_(module.get_parameter("bias"), bias_init)
    return module


@dataclass(frozen=True, repr=False)
class Conv(Block):
    """A convolution, its normalisation and its activation.

    Attributes:
        out: Maps that come out.
        kernel: Window, one side or (height, width).
        stride: Step of the window.
        padding: Zeros added at each side.
        dilation: Distance between the window's taps.
        groups: Towers that do not see each other (AlexNet 2012 has 2).
        bias: Whether each map has a bias.
        norm: What normalises the maps before the activation, see ``normaliser``, or None.
        activation: A key of ``ACTIVATIONS``, or None.
        init: Initial weights by name, see ``cnnzoo.initializers``; None leaves torch's.
        bias_init: Initial value of the biases; None leaves torch's.
    """

    out: int = whole()
    kernel: int | tuple[int, int] = whole(pair=True)
    stride: int | tuple[int, int] = whole(1, pair=True)
    padding: int | tuple[int, int] = whole(0, least=0, pair=True)
    dilation: int | tuple[int, int] = whole(1, pair=True)
    groups: int = whole(1)
    bias: bool = flag(True)
    norm: str | None = norm_word(None, optional=True)
    activation: str | None = word("relu", tuple(ACTIVATIONS), optional=True)
    init: str | None = scheme()
    bias_init: float | None = number(0.0, optional=True)

    stem = "conv"
    weighted = True

    def unroll(self, shape: Shape) -> list[nn.Module]:
        _require_maps(shape)
        conv = _layer(
            nn.Conv2d,
            shape[0],
            self.out,
            self.kernel,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=self.bias,
            init=self.init,
            bias_init=self.bias_init,
        )
        return _followed(conv, self.out, self.norm, self.activation)

    def widened(self, factor: float, multiple: int) -> Block:
        out = _round_width(self.out, factor, multiple)
        depthwise = self.groups > 1 and self.groups == self.out
        return dataclasses.replace(self, out=out, groups=out if depthwise else self.groups)


class TableConv2d(nn.Module):
    """A convolution whose maps each see only some of the maps that come in.

    Maps that see equally many are one grouped convolution over gathered maps, so that nothing is computed
    (and no weight is held) for a connection that is not there.

    Args:
        table: For each map that comes out, the maps that it sees.
        init: Initial weights by name, see ``cnnzoo.initializers``; None leaves torch's.
        bias_init: Initial value of the biases; None leaves torch's.
        **settings: As for ``nn.Conv2d``, kernel_size and on.
    """

    order: torch.Tensor | None

    def __init__(
        self, table: Sequence[Sequence[int]], init: str | None = None, bias_init: float | None = None, **settings: Any
    ) -> None:
        super().__init__()
        by_size: dict[int, list[int]] = {}
        for number_, seen in enumerate(table):
            by_size.setdefault(len(seen), []).append(number_)
        self.convs = nn.ModuleList(
            _layer(nn.Conv2d, size * len(maps), len(maps), groups=len(maps), init=init, bias_init=bias_init, **settings)
            for size, maps in by_size.items()
        )
        for number_, maps in enumerate(by_size.values()):
            seen_here = torch.tensor([i for one in maps for i in table[one]])
            self.register_buffer(f"seen{number_}", seen_here, persistent=False)
        made = [one for maps in by_size.values() for one in maps]  # the order in which maps come out
        back = None if made == sorted(made) else torch.tensor(made).argsort()
        self.register_buffer("order", back, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, len(table), H', W')."""
        outs = [conv(x.index_select(1, self.get_buffer(f"seen{i}"))) for i, conv in enumerate(self.convs)]
        joined = torch.cat(outs, dim=1)
        return joined if self.order is None else joined.index_select(1, self.order)


def _table_check(table: object) -> str | None:
    def is_one(seen: object) -> bool:
        if not isinstance(seen, tuple) or not seen or len(set(seen)) < len(seen):
            return False
        return all(type(i) is int and 0 <= i <= LARGEST for i in seen)

    if isinstance(table, tuple) and table and all(map(is_one, table)):
        return None
    return "a tuple with, for each map that comes out, a tuple of the numbers of the maps that it sees"


@dataclass(frozen=True, repr=False)
class TableConv(Block):
    """A convolution with a connection table: each map sees some of the maps that come in (C3 of LeNet-5).

    Attributes:
        table: For each map that comes out, the numbers of the maps that it sees, from 0.
        kernel: Window, one side or (height, width).
        stride: Step of the window.
        padding: Zeros added at each side.
        bias: Whether each map has a bias.
        norm: What normalises the maps before the activation, see ``normaliser``, or None.
        activation: A key of ``ACTIVATIONS``, or None.
        init: Initial weights by name, see ``cnnzoo.initializers``; None leaves torch's.
        bias_init: Initial value of the biases; None leaves torch's.
    """

    table: tuple[tuple[int, ...], ...] = field(metadata={"check": _table_check})
    kernel: int | tuple[int, int] = whole(pair=True)
    stride: int | tuple[int, int] = whole(1, pair=True)
    padding: int | tuple[int, int] = whole(0, least=0, pair=True)
    bias: bool = flag(True)
    norm: str | None = norm_word(None, optional=True)
    activation: str | None = word("relu", tuple(ACTIVATIONS), optional=True)
    init: str | None = scheme()
    bias_init: float | None = number(0.0, optional=True)

    stem = "conv"
    weighted = True

    def unroll(self, shape: Shape) -> list[nn.Module]:
        _require_maps(shape)
        if (last := max(i for seen in self.table for i in seen)) >= shape[0]:
            raise SpecError(f"its table names map {last}, and {shape[0]} maps come in, numbered from 0")
        conv = TableConv2d(
            self.table,
            kernel_size=self.kernel,
            stride=self.stride,
            padding=self.padding,
            bias=self.bias,
            init=self.init,
            bias_init=self.bias_init,
        )
        return _followed(conv, len(self.table), self.norm, self.activation)

    def widened(self, factor: float, multiple: int) -> Block:
        if factor == 1:
            return self
        raise SpecError(
            f"row {self.label!r} has a connection table, which names its maps one by one; width cannot scale it: "
            f"put Conv({len(self.table)}, kernel={self.kernel}) in its place first"
        )


@dataclass(frozen=True, repr=False)
class Dense(Block):
    """A fully connected layer and its activation.

    Attributes:
        out: Units that come out.
        bias: Whether each unit has a bias.
        activation: A key of ``ACTIVATIONS``, or None.
        init: Initial weights by name, see ``cnnzoo.initializers``; None leaves torch's.
        bias_init: Initial value of the biases; None leaves torch's.
    """

    out: int = whole()
    bias: bool = flag(True)
    activation: str | None = word("relu", tuple(ACTIVATIONS), optional=True)
    init: str | None = scheme()
    bias_init: float | None = number(0.0, optional=True)

    stem = "fc"
    weighted = True

    def unroll(self, shape: Shape) -> list[nn.Module]:
        if len(shape) != 1:
            raise SpecError("it needs a vector; put a Flatten() row before it")
        linear = _layer(nn.Linear, shape[0], self.out, bias=self.bias, init=self.init, bias_init=self.bias_init)
        return _followed(linear, self.out, None, self.activation)

    def widened(self, factor: float, multiple: int) -> Block:
        return dataclasses.replace(self, out=_round_width(self.out, factor, 1))


@dataclass(frozen=True, repr=False)
class Logits(Block):
    """The last layer: one score per class; a 1x1 convolution where the input is still a map.

    Attributes:
        classes: Number of classes.
        bias: Whether each class has a bias.
        init: Initial weights by name, see ``cnnzoo.initializers``; None leaves torch's.
        bias_init: Initial value of the biases; None leaves torch's.
    """

    classes: int = whole()
    bias: bool = flag(True)
    init: str | None = scheme()
    bias_init: float | None = number(0.0, optional=True)

    stem = "fc"
    weighted = True

    def with_classes(self, classes: int) -> Block:
        return dataclasses.replace(self, classes=classes)

    def unroll(self, shape: Shape) -> list[nn.Module]:
        kind, sizes = (
            (nn.Linear, (shape[0], self.classes)) if len(shape) == 1 else (nn.Conv2d, (shape[0], self.classes, 1))
        )
        return [_layer(kind, *sizes, bias=self.bias, init=self.init, bias_init=self.bias_init)]


class RBFUnits(nn.Module):
    """Scores vectors by how near they are to fixed codes: minus half the squared Euclidean distance.

    Args:
        codes: One code a class, (classes, units).
    """

    codes: torch.Tensor

    def __init__(self, codes: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes, persistent=False)  # part of the description, not of the weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, units) to (N, classes)."""
        # -|x - c|^2 / 2 = x.c - |x|^2 / 2 - |c|^2 / 2: one matrix product
        return x @ self.codes.T - x.square().sum(1, keepdim=True) / 2 - self.codes.square().sum(1) / 2


def _codes_check(codes: object) -> str | None:
    if (
        isinstance(codes, tuple)
        and codes
        and all(isinstance(code, str) and code and set(code) <= {"+", "-"} for code in codes)
        and len({len(code) for code in codes}) == 1
    ):
        return None
    return "a tuple with one code a class, all of one length, each a text of '+' and '-'"


@dataclass(frozen=True, repr=False)
class RBF(Block):
    """Euclidean radial basis units with fixed codes, one a class (the output of LeNet-5).

    A class scores minus half the squared distance between the vector and its code, so that softmax and
    cross-entropy read the scores as they read logits: they are the log-likelihoods of unit Gaussians around
    the codes, but for a constant.

    Attributes:
        codes: For each class a text of ``+`` (1) and ``-`` (-1), as long as the vector that comes in.
    """

    codes: tuple[str, ...] = field(metadata={"check": _codes_check})

    stem = "rbf"
    weighted = True

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.codes)

    def unroll(self, shape: Shape) -> list[nn.Module]:
        if shape != (len(self.codes[0]),):
            raise SpecError(f"its codes are of length {len(self.codes[0])}, and need a vector of as many units")
        return [RBFUnits(torch.tensor([[1.0 if sign == "+" else -1.0 for sign in code] for code in self.codes]))]

    def with_classes(self, classes: int) -> Block:
        if classes == self.classes:
            return self
        raise SpecError(
            f"row {self.label!r} has codes for {self.classes} classes, not for num_classes={classes}; give it "
            f"other codes=, or put Logits({classes}) in its place"
        )


class Subsampling(nn.Module):
    """The sum of each window, times one coefficient a map, plus one bias a map.

    Args:
        channels: Number of maps.
        kernel_size: Window, one side or (height, width); windows do not overlap.
    """

    def __init__(self, channels: int, kernel_size: int | tuple[int, int]) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        self.weight = nn.Parameter(torch.full((channels, 1, 1), 1 / (height * width)))  # at first, the mean
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C, H / height, W / width)."""
        height, width = (self.kernel_size,) * 2 if isinstance(self.kernel_size, int) else self.kernel_size
        # the window's sum as its mean times its size: the exporter to ONNX forgets a divisor_override
        return nn.functional.avg_pool2d(x, self.kernel_size) * (self.weight * (height * width)) + self.bias

    def extra_repr(self) -> str:
        """The settings, for ``print(model)``."""
        return f"{self.weight.shape[0]}, kernel_size={self.kernel_size}"


@dataclass(frozen=True, repr=False)
class Subsample(Block):
    """Trainable pooling: window sum times a coefficient plus a bias, then the activation (S2 of LeNet-5).

    Attributes:
        kernel: Window and step, one side or (height, width).
        activation: A key of ``ACTIVATIONS``, or None.
        init: Initial coefficients by name, see ``cnnzoo.initializers`` (a unit's fan-in is its window); None starts from
            the mean.
        bias_init: Initial value of the biases.
    """

    kernel: int | tuple[int, int] = whole(pair=True)
    activation: str | None = word(None, tuple(ACTIVATIONS), optional=True)
    init: str | None = scheme()
    bias_init: float | None = number(0.0, optional=True)

    stem = "pool"

    def unroll(self, shape: Shape) -> list[nn.Module]:
        _require_maps(shape)
        module = Subsampling(shape[0], self.kernel)
        if self.init is not None:
            side = (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel
            windows = torch.empty(shape[0], 1, *side)  # the coefficient of a map stands for its whole window
            initialiser(self.init)(windows)
            with torch.no_grad():
                module.weight.copy_(windows[:, :, 0, :1])
        if self.bias_init is not None:
            nn.init.constant_(module.bias, self.bias_init)
        return _followed(module, shape[0], None, self.activation)


@dataclass(frozen=True, repr=False)
class MaxPool(Block):
    """The largest value of each window.

    Attributes:
        kernel: Window, one side or (height, width).
        stride: Step of the window; None is the window itself.
        padding: Rows and columns added at each side (they never win).
        ceil: Whether a window that hangs over the edge counts (Caffe's rounding).
    """

    kernel: int | tuple[int, int] = whole(pair=True)
    stride: int | tuple[int, int] | None = whole(None, pair=True, optional=True)
    padding: int | tuple[int, int] = whole(0, least=0, pair=True)
    ceil: bool = flag(False)

    stem = "pool"

    def unroll(self, shape: Shape) -> list[nn.Module]:
        _require_maps(shape)
        return [nn.MaxPool2d(self.kernel, self.stride, self.padding, ceil_mode=self.ceil)]


@dataclass(frozen=True, repr=False)
class AvgPool(Block):
    """The mean of each window.

    Attributes:
        kernel: Window, one side or (height, width).
        stride: Step of the window; None is the window itself.
        padding: Zeros added at each side.
        ceil: Whether a window that hangs over the edge counts (Caffe's rounding).
    """

    kernel: int | tuple[int, int] = whole(pair=True)
    stride: int | tuple[int, int] | None = whole(None, pair=True, optional=True)
    padding: int | tuple[int, int] = whole(0, least=0, pair=True)
    ceil: bool = flag(False)

    stem = "pool"

    def unroll(self, shape: Shape) -> list[nn.Module]:
        _require_maps(shape)
        return [nn.AvgPool2d(self.kernel, self.stride, self.padding, ceil_mode=self.ceil)]


@dataclass(frozen=True, repr=False)
class PoolTo(Block):
    """Pooling to a fixed size, whatever comes in; ``PoolTo(1)`` is global pooling.

    Attributes:
        size: Side of the maps that come out, or (height, width).
        kind: ``"avg"`` or ``"max"``.
    """

    size: int | tuple[int, int] = whole(pair=True)
    kind: str = word("avg", ("avg", "max"))

    stem = "pool"

    def unroll(self, shape: Shape) -> list[nn.Module]:
        _require_maps(shape)
        return [nn.AdaptiveAvgPool2d(self.size) if self.kind == "avg" else nn.AdaptiveMaxPool2d(self.size)]


@dataclass(frozen=True, repr=False)
class LRN(Block):
    """Local response normalisation across neighbouring maps (Krizhevsky, Sutskever, Hinton 2012, section 3.3).

    Each value is divided by ``(k + alpha * S) ** beta``, where S is the sum of the squares of ``size``
    neighbouring maps at the same place. The defaults are the paper's.

    Attributes:
        size: Neighbours that are summed, n in the paper.
        alpha: Weight of the sum.
        beta: The exponent.
        k: What is added to the sum.
        mean: Whether S is divided by ``size`` (torch and Caffe do, the paper does not).
    """

    size: int = whole(5)
    alpha: float = number(1e-4)
    beta: float = number(0.75)
    k: float = number(2.0)
    mean: bool = flag(False)

    stem = "norm"

    def unroll(self, shape: Shape) -> list[nn.Module]:
        _require_maps(shape)
        alpha = self.alpha if self.mean else self.alpha * self.size  # torch divides the sum by size
        return [nn.LocalResponseNorm(self.size, alpha=alpha, beta=self.beta, k=self.k)]


@dataclass(frozen=True, repr=False)
class Norm(Block):
    """A normalisation on a row of its own, and an activation after it where wanted.

    Attributes:
        norm: ``"batch"``, ``"instance"``, ``"group"`` or ``"layer"``, see ``normaliser``.
        activation: A key of ``ACTIVATIONS``, or None.
    """

    norm: str = norm_word("batch")
    activation: str | None = word(None, tuple(ACTIVATIONS), optional=True)

    stem = "norm"

    def unroll(self, shape: Shape) -> list[nn.Module]:
        _require_maps(shape)
        return _followed(normaliser(self.norm)(shape[0]), shape[0], None, self.activation)


@dataclass(frozen=True, repr=False)
class Act(Block):
    """An activation on a row of its own.

    Attributes:
        activation: A key of ``ACTIVATIONS``.
    """

    activation: str = word("relu", tuple(ACTIVATIONS))

    stem = "act"

    def unroll(self, shape: Shape) -> list[nn.Module]:
        return [ACTIVATIONS[self.activation]()]


@dataclass(frozen=True, repr=False)
class Dropout(Block):
    """Dropout; a row of its own, because its place fixes the state-dict keys.

    Attributes:
        p: Probability that a value is zeroed in training.
    """

    p: float = number(0.5, least=0.0, below=1.0)

    stem = "drop"

    def unroll(self, shape: Shape) -> list[nn.Module]:
        return [nn.Dropout(self.p)]


@dataclass(frozen=True, repr=False)
class Flatten(Block):
    """(C, H, W) to (C * H * W,)."""

    stem = "flatten"

    def unroll(self, shape: Shape) -> list[nn.Module]:
        return [nn.Flatten()]


class Branches(nn.ModuleList):
    """Runs each of its paths on the same input and merges what comes out.

    Args:
        paths: The paths; an empty one is the identity.
        merge: ``"concat"`` (along the channels) or ``"add"``.
    """

    def __init__(self, paths: Sequence[nn.Module], merge: str) -> None:
        super().__init__(paths)
        self.merge = merge

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) through every path."""
        outs: list[torch.Tensor] = [path(x) if len(path) else x for path in self]  # type: ignore[arg-type]
        if self.merge == "concat":
            return torch.cat(outs, dim=1)
        total = outs[0]
        for out in outs[1:]:
            total = total + out
        return total

    def extra_repr(self) -> str:
        """How the paths are merged, for ``print(model)``."""
        return f"merge={self.merge!r}"


@dataclass(frozen=True, repr=False)
class Parallel(Block):
    """Paths side by side: an Inception module concatenates, a residual adds and then activates.

    Attributes:
        paths: Each path a tuple of rows; an empty path is the identity.
        merge: ``"concat"`` or ``"add"``.
        activation: What follows the merge, a key of ``ACTIVATIONS``, or None.
    """

    paths: tuple[tuple[Block, ...], ...] = field(
        metadata={
            "check": lambda paths: (
                None
                if isinstance(paths, tuple)
                and paths
                and all(isinstance(p, tuple) and all(isinstance(row, Block) for row in p) for p in paths)
                else "a tuple of paths, each a tuple of rows"
            )
        }
    )
    merge: str = word("concat", ("concat", "add"))
    activation: str | None = word(None, tuple(ACTIVATIONS), optional=True)

    stem = "block"
    weighted = True

    def unroll(self, shape: Shape) -> list[nn.Module]:
        paths, ends = [], []
        for number_, path in enumerate(self.paths, start=1):
            links = chain(path, shape, f"path {number_} of {self.label or 'Parallel'}")
            paths.append(nn.Sequential(*(module for link in links for module in link.modules)))
            ends.append(links[-1].shape if links else shape)
        if self.merge == "add" and len(set(ends)) > 1:  # torch would broadcast some of them in silence
            raise SpecError(f"its paths end in different shapes, which cannot be added: {', '.join(map(str, ends))}")
        modules: list[nn.Module] = [Branches(paths, self.merge)]
        if self.activation is not None:
            fresh = len(self.paths) > 1  # one empty path hands on what came in
            modules.append(_activation(self.activation) if fresh else ACTIVATIONS[self.activation]())
        return modules

    def inside(self) -> tuple[tuple[Block, ...], ...]:
        """The rows of each path."""
        return self.paths

    def with_inside(self, paths: tuple[tuple[Block, ...], ...]) -> Block:
        """This row with other paths."""
        return dataclasses.replace(self, paths=paths)


def known_blocks() -> dict[str, type[Block]]:
    """Every kind of row known to this process, by its class name: ours and those a user has defined."""
    kinds: dict[str, type[Block]] = {}
    waiting = list(Block.__subclasses__())
    while waiting:
        kind = waiting.pop(0)
        ours = kinds.get(kind.__name__)
        if ours is None or ours.__module__ != __name__:  # a cell run again defines a kind anew: the newest counts
            kinds[kind.__name__] = kind
        waiting.extend(kind.__subclasses__())
    return kinds


def block_kind(name: object) -> type[Block]:
    """The kind of row of that name.

    Raises:
        UnknownNameError: If no such kind is known to this process.
    """
    kinds = known_blocks()
    if not isinstance(name, str) or name not in kinds:
        raise unknown("kind of row", name, kinds)
    return kinds[name]


class RowError(SpecError):
    """A row that cannot take the shape it gets.

    Attributes:
        row: Which row, and what it got.
        reason: Why it cannot take it.
    """

    def __init__(self, row: str, reason: str) -> None:
        super().__init__(f"{row}: {reason}")
        self.row = row
        self.reason = reason


@dataclass(frozen=True)
class Link:
    """A row in its place: the modules it became and the shape that leaves it."""

    row: Block
    modules: list[nn.Module]
    shape: Shape


def _ordinal(n: int) -> str:
    suffix = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


_shapes: dict[Any, Shape] = {}  # what torch once said: a row (but for its label) and a shape -> the next shape
_MOST_SHAPES = 100_000


def _try(row: Block, shape: Shape) -> tuple[Shape, list[nn.Module] | None]:
    """The shape that leaves a row, and the modules on the meta device where they had to be made to know it."""
    values = tuple(getattr(row, item.name) for item in dataclasses.fields(row) if item.name != "label")
    try:
        key = (type(row), values, shape)
        if (known := _shapes.get(key)) is not None:
            return known, None
    except TypeError:  # a user's row that holds what has no hash
        key = None
    with torch.device("meta"), torch.no_grad():
        modules = row.unroll(shape)
        if not isinstance(modules, list) or not all(isinstance(module, nn.Module) for module in modules):
            raise SpecError(f"its unroll must return a list of modules, not {modules!r}")
        x = torch.empty(2, *shape)  # N=2 and eval mode: batch norm of a 1x1 map needs them
        for module in modules:
            x = module.eval()(x)
            module.train()
            if not isinstance(x, torch.Tensor):
                raise SpecError(f"{type(module).__name__} gives a {type(x).__name__}, not a tensor")
    after = tuple(x.shape[1:])
    if 0 in after:
        raise SpecError(f"nothing of {shape} would be left")
    if key is not None:
        if len(_shapes) >= _MOST_SHAPES:
            _shapes.clear()
        _shapes[key] = after
    return after, modules


def chain(rows: Sequence[Block], shape: Shape, place: str) -> list[Link]:
    """Builds rows one after the other, asking torch for the shape between them.

    The modules are made on torch's current default device. Each module carries the label of its row as a
    plain attribute ``label``, which is how a counter or a feature extractor finds it again.

    Args:
        rows: The rows in order.
        shape: What comes into the first, one sample: (C, H, W).
        place: Where the rows stand, for errors: ``"features"``.

    Raises:
        RowError: If a row cannot take the shape it gets; the text names the row and the shape.
    """
    links = []
    on_meta = torch.get_default_device().type == "meta"
    for number_, row in enumerate(rows, start=1):
        given = shape
        try:
            shape, modules = _try(row, given)
        except RowError:  # a row inside this one, which has named itself
            raise
        except Exception as problem:  # also what a user's own row may raise
            reason = next(iter(str(problem).strip().splitlines()), "")
            if not isinstance(problem, (RuntimeError, ValueError)) or not reason:
                reason = f"{type(problem).__name__}: {reason}"
            where = f"{row.label!r} ({_ordinal(number_)} of {place})" if row.label else f"{number_} of {place}"
            raise RowError(f"row {where}, {row!r}, cannot take {given}", reason) from problem
        if modules is None or not on_meta:
            modules = row.unroll(given)  # the same again, where the network is to live
        for module in modules:
            object.__setattr__(module, "label", row.label)  # a word: not for nn.Module to look after
        links.append(Link(row, modules, shape))
    return links
