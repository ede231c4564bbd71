"""Mistakes: the test images of which a network is most certain in favor of another class."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cnnzoo.html_report.groups import RunGroup
from cnnzoo.html_report.sections.filters import Picture

if TYPE_CHECKING:
    from cnnzoo.explain import Mistakes

SIDE = 96  # px of the longer side of an image
SUSPICIOUS = 0.95  # probability of another class from which on the label may be wrong


FindMistakes = Callable[[Path], "Mistakes"]  # of the network of a run folder


@dataclass(frozen=True)
class Mistake:
    """One image.

    Attributes:
        picture: The image as the network saw it.
        index: Its index in the test images.
        label: The class that it has in the data set.
        prediction: The class that the network predicts.
        probability: The probability of that class, as text.
        is_suspicious: Whether its label may be wrong.
    """

    picture: Picture
    index: int
    label: str
    prediction: str
    probability: str
    is_suspicious: bool


@dataclass(frozen=True)
class MistakeSheet:
    """The mistakes of the first run of a group.

    Attributes:
        label: Label of the run.
        color: Color of its group.
        summary: How many images are misclassified.
        mistakes: The mistakes with the highest probabilities.
        suspicious: Probability from which on a label may be wrong, as text.
    """

    label: str
    color: str
    summary: str
    mistakes: Sequence[Mistake]
    suspicious: str = f"{SUSPICIOUS:.0%}"


def build_mistakes(groups: Sequence[RunGroup], find: FindMistakes | None) -> list[MistakeSheet]:
    """Returns the mistakes of the first run of each group; none without a function that finds them."""
    sheets: list[MistakeSheet] = []
    if find is None:
        return sheets
    for group in groups:
        label, run = next(iter(group.runs.items()))
        if (mistakes := run.find_mistakes(find)) is None:
            continue
        summary = f"{mistakes.n_mistakes:,} of {mistakes.n_images:,} test images of {mistakes.data} are misclassified"
        if len(mistakes.indices) < mistakes.n_mistakes:
            summary += f"; here are the {len(mistakes.indices)} with the highest probability of another class"
        sheets.append(MistakeSheet(label, group.color, summary, _mistakes(mistakes)))
    return sheets


def _mistakes(mistakes: Mistakes) -> list[Mistake]:
    values = zip(
        mistakes.images,
        mistakes.indices,
        mistakes.labels,
        mistakes.predictions,
        mistakes.probabilities.tolist(),
        strict=True,
    )
    return [
        Mistake(draw_image(image), index, label, prediction, f"{probability:.1%}", probability >= SUSPICIOUS)
        for image, index, label, prediction, probability in values
    ]


def draw_image(image: torch.Tensor) -> Picture:
    """Returns an image, uint8 (C, H, W), in gray or color; of other numbers of channels the first, in gray."""
    from PIL.Image import Resampling, fromarray

    channels = image if len(image) == 3 else image[:1].expand(3, -1, -1)
    height, width = channels.shape[1:]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = fromarray(channels.permute(1, 2, 0).contiguous().numpy())
    file = BytesIO()
    picture.resize(size, Resampling.NEAREST if scale > 1 else Resampling.LANCZOS).save(file, "png", optimize=True)
    return Picture(f"data:image/png;base64,{b64encode(file.getvalue()).decode()}", *size)
