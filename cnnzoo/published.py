"""Records about a network: figures that its sources print, deviations from its source, its torchvision twin."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from cnnzoo.errors import InputError

# sources that several lineages cite
D2L_SLIDE = "Dive into Deep Learning, lecture 24, slide 'AlexNet vs LeNet: complexity'"
TORCHVISION = "torchvision, table of its weights"

# on the validation images; center crop unless a note says otherwise
TOP1, TOP5 = "ImageNet accuracy, top 1, %", "ImageNet accuracy, top 5, %"
TOP1_ERROR, TOP5_ERROR = "ImageNet error, top 1, %", "ImageNet error, top 5, %"
TRAINING_RUN = "result of a training run"  # the note on figures that cannot be recomputed from the network

_UNITS = {
    "": 1, "x": 1, "px": 1, "K": 10**3, "M": 10**6, "million": 10**6, "G": 10**9, "B": 10**9, "billion": 10**9,
}  # fmt: skip
_FIGURE = re.compile(
    r"([\d,]+)(?:\.(\d+))?\s?(K|M|G|B|million|billion|x10\^\d+|x|px)?(?:(?<=[KMG])(?:B|FLOPs?|FLOPS))?"
)


def _unit_value(unit: str) -> int:
    """Returns the factor of a unit such as ``"M"``, ``"million"`` or ``"x10^6"``."""
    if unit.startswith("x10^"):
        return int(10 ** int(unit.removeprefix("x10^")))
    return _UNITS[unit]


@dataclass(frozen=True)
class Published:
    """One figure as printed in a source, and how to recompute it.

    Attributes:
        what: Name of the figure in the source: ``"parameters"``.
        printed: The figure as printed: ``"46M"``.
        source: Where it is printed. Comparisons show figures of several networks side by side if they have the same
            source and name.
        quantity: What is computed: ``"parameters"``, ``"weights"`` (parameters without biases), ``"bytes"`` (of the
            parameters in float32), ``"macs"``, ``"flops"``, ``"connections"``, ``"neurons"``, ``"inputs"`` (values of
            one image), ``"units"`` (neurons and inputs), ``"min_image_size"`` (side of the smallest square image, in
            px); ``""`` if the figure cannot be recomputed.
        blocks: Labels (with wildcards) of the blocks that the figure covers; empty for the whole network.
        knobs: Arguments of the model function for which it was printed.
        relative_to: Name of a registered network: the figure is the ratio to the quantity of that whole network.
        digits: Number of significant digits, if not all printed digits are significant (``"650,000"`` has two); 0
            means all.
        note: The interpretation under which the figure agrees, or the reason why it does not, or why it cannot be
            recomputed.
        headline: Whether comparisons of networks repeat the figure.
    """

    what: str
    printed: str
    source: str
    quantity: str = ""
    blocks: tuple[str, ...] = ()
    knobs: Mapping[str, int] = field(default_factory=dict)
    relative_to: str = ""
    digits: int = 0
    note: str = ""
    headline: bool = False

    @property
    def value(self) -> Fraction:
        """The printed figure as a number."""
        return self._parse()[0]

    def agrees(self, exact: float) -> bool:
        """Returns whether ``exact``, rounded or truncated to the printed digits, is the printed figure."""
        value, step = self._parse()
        quotient = Fraction(exact) / step
        return value in (math.floor(quotient) * step, math.floor(quotient + Fraction(1, 2)) * step)

    def _parse(self) -> tuple[Fraction, Fraction]:
        """Returns the printed value, and the value of one unit in its last significant digit."""
        match = _FIGURE.fullmatch(self.printed)
        if match is None:
            raise InputError(f"{self.printed!r} is not a figure such as '46M' or '60,000'")
        whole, decimals, unit = match[1].replace(",", ""), match[2] or "", _unit_value(match[3] or "")
        value = Fraction(int(whole + decimals) * unit, 10 ** len(decimals))
        if not self.digits:
            return value, Fraction(unit, 10 ** len(decimals))
        return value, Fraction(10) ** (math.floor(math.log10(value)) + 1 - self.digits)


@dataclass(frozen=True)
class Deviation:
    """One deviation of a network from its source.

    Attributes:
        blocks: Labels of the blocks, or ``"input"``.
        source: What the source has.
        ours: What this network has.
        reason: The reason for the deviation.
    """

    blocks: str
    source: str
    ours: str
    reason: str


@dataclass(frozen=True)
class Twin:
    """The torchvision model that a network equals, weight by weight.

    Attributes:
        name: Name of the model in torchvision.
        keys: How to rename weights to torchvision's state-dict keys, if these differ: regular expressions over
            ``label:conv.weight`` (``norm`` or ``linear`` instead of ``conv``) and their replacements, applied in order.
        skipped: Modules of the torchvision model that the network does not have.
        mean_std: Mean and standard deviation of the images that the torchvision weights expect, the same for each
            channel; None for those that torchvision declares.
    """

    name: str
    keys: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    mean_std: tuple[float, float] | None = None


# of the textbook's models, which are trained on Fashion-MNIST
TEACHING = Deviation(
    "input, output", "3 channels, 1000 classes", "1 channel, 10 classes", "Fashion-MNIST, as in the book"
)


def torchvision_figures(
    parameters: str, gflops: str, top1: str, top5: str, min_size: str = "", min_size_note: str = ""
) -> tuple[Published, ...]:
    """Returns the figures that torchvision prints for the weights ``IMAGENET1K_V1`` of one of its models.

    Args:
        parameters: Number of parameters.
        gflops: Multiply-adds of one image, in units of 10^9.
        top1: ImageNet accuracy, top 1, in percent.
        top5: ImageNet accuracy, top 5, in percent.
        min_size: Side of the smallest image, in px; empty if torchvision prints none.
        min_size_note: The note on that figure.
    """
    figures = [
        Published("parameters", parameters, TORCHVISION, "parameters"),
        Published("GFLOPS", f"{gflops}G", TORCHVISION, "macs", note="multiply-adds"),
        Published(TOP1, top1, TORCHVISION, note=TRAINING_RUN),
        Published(TOP5, top5, TORCHVISION, note=TRAINING_RUN),
    ]
    if min_size:
        figures.insert(
            2, Published("smallest image", f"{min_size} px", TORCHVISION, "min_image_size", note=min_size_note)
        )
    return tuple(figures)
