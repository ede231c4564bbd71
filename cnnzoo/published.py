"""What sources print about a network, and where our network departs from its source: records, not prose."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

# sources that more than one lineage cites
D2L_SLIDE = "Dive into Deep Learning, lecture 24, slide 'AlexNet vs LeNet: complexity'"
TORCHVISION = "torchvision, table of its weights"

# of validation images, by the center crop where a source does not say otherwise
TOP1, TOP5 = "ImageNet accuracy, top 1, %", "ImageNet accuracy, top 5, %"
TOP1_ERROR, TOP5_ERROR = "ImageNet error, top 1, %", "ImageNet error, top 5, %"

_UNITS = {
    "": 1, "x": 1, "px": 1, "K": 10**3, "M": 10**6, "million": 10**6, "G": 10**9, "B": 10**9, "billion": 10**9,
}  # fmt: skip
_FIGURE = re.compile(
    r"([\d,]+)(?:\.(\d+))?\s?(K|M|G|B|million|billion|x10\^\d+|x|px)?(?:(?<=[KMG])(?:B|FLOPs?|FLOPS))?"
)


def _unit(written: str) -> int:
    """What a unit stands for: ``"M"``, ``"million"``, ``"x10^6"``."""
    if written.startswith("x10^"):
        return int("1" + "0" * int(written.removeprefix("x10^")))
    return _UNITS[written]


@dataclass(frozen=True)
class Published:
    """One figure as a source prints it, with what it takes to compute it again.

    Attributes:
        what: What the source says the figure is: ``"parameters"``.
        printed: The figure as printed: ``"46M"``.
        source: Where it is printed. Figures of two networks that share source and what are set side by side.
        quantity: How to compute it again: ``"parameters"``, ``"weights"`` (parameters without biases), ``"bytes"``
            (of the parameters in float32), ``"macs"``, ``"flops"``, ``"connections"``, ``"neurons"``, ``"inputs"``
            (values of one image), ``"min_image_size"`` (of a square image, in px), or ``""`` where it cannot be
            computed here.
        blocks: Labels (with wildcards) of the blocks that it covers; empty for the whole network.
        setting: Arguments of the model function under which it was printed.
        against: A registered network: the figure is how many times that of this network, as a whole.
        digits: Significant digits, where those printed mislead (``"650,000"`` has two); 0 takes all printed.
        note: Under which reading it holds, why it does not, or why it cannot be computed here.
        headline: Whether a comparison with another network that shares source and what repeats it.
    """

    what: str
    printed: str
    source: str
    quantity: str = ""
    blocks: tuple[str, ...] = ()
    setting: Mapping[str, int] = field(default_factory=dict)
    against: str = ""
    digits: int = 0
    note: str = ""
    headline: bool = False

    @property
    def value(self) -> Fraction:
        """The printed figure as an exact number."""
        return self._parsed()[0]

    def agrees(self, exact: float) -> bool:
        """Whether ``exact``, rounded or truncated to the printed digits, is the printed figure."""
        value, step = self._parsed()
        quotient = Fraction(exact) / step
        return value in (math.floor(quotient) * step, math.floor(quotient + Fraction(1, 2)) * step)

    def _parsed(self) -> tuple[Fraction, Fraction]:
        """The figure, and the weight of its last significant digit."""
        match = _FIGURE.fullmatch(self.printed)
        if match is None:
            raise ValueError(f"{self.printed!r} is no figure such as '46M' or '60,000'")
        whole, decimals, unit = match[1].replace(",", ""), match[2] or "", _unit(match[3] or "")
        value = Fraction(int(whole + decimals) * unit, 10 ** len(decimals))
        if not self.digits:
            return value, Fraction(unit, 10 ** len(decimals))
        return value, Fraction(10) ** (math.floor(math.log10(value)) + 1 - self.digits)


@dataclass(frozen=True)
class Deviation:
    """One place where our network departs from its source.

    Attributes:
        blocks: Labels of the blocks concerned, or ``"input"``.
        source: What the source says.
        ours: What ours does.
        reason: Why.
    """

    blocks: str
    source: str
    ours: str
    reason: str


@dataclass(frozen=True)
class Twin:
    """The model of torchvision that ours equals, weight by weight.

    Attributes:
        name: Its name there.
        keys: How our weights are called there, where the state-dict keys differ: regular expressions over
            ``label:conv.weight`` (``norm``, ``linear`` instead of ``conv``) and what to put for them, in order.
        left_out: Parts of it that ours does without.
        images: Mean and standard deviation of the images that its weights expect, where they are not those that
            torchvision says.
    """

    name: str
    keys: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    images: tuple[float, float] | None = None


# every net of the textbook is built for the images on which it trains
TEACHING = Deviation(
    "input, output", "3 channels, 1000 classes", "1 channel, 10 classes", "Fashion-MNIST, as in the book"
)


def torchvision_figures(
    parameters: str, gflops: str, top1: str, top5: str, least: str = "", least_note: str = ""
) -> tuple[Published, ...]:
    """What torchvision prints of one of its models, for the weights V1."""
    figures = [
        Published("parameters", parameters, TORCHVISION, "parameters"),
        Published("GFLOPS", f"{gflops}G", TORCHVISION, "macs", note="multiply-adds"),
        Published(TOP1, top1, TORCHVISION, note="a training run"),
        Published(TOP5, top5, TORCHVISION, note="a training run"),
    ]
    if least:
        figures.insert(2, Published("least image", f"{least} px", TORCHVISION, "min_image_size", note=least_note))
    return tuple(figures)
