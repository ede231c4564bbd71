"""Occlusion: how far the probability of a class drops where a patch covers the image (Zeiler, Fergus 2013)."""

from __future__ import annotations

import itertools
import math

import torch

from cnnzoo.errors import InputError
from cnnzoo.explain.registry import register_explanation
from cnnzoo.explain.results import Attribution
from cnnzoo.explain.subject import Subject
from cnnzoo.fields import check_positive_int


@register_explanation("occlusion")
def occlusion(
    subject: Subject,
    label: str | int | None = None,
    patch: int | None = None,
    stride: int | None = None,
    batch_size: int = 64,
) -> Attribution:
    """Returns the mean drop of a class's probability over all patches that cover a pixel, (H, W).

    A patch is filled with the mean color of the preprocessing, which is 0 in the network's input. The first patch is in
    the top left corner; the last ones are cut off at the border.

    Args:
        subject: Network and image.
        label: Name or index of the class; by default the most probable one.
        patch: Side of the patch in px; by default a seventh of the shorter side of the image.
        stride: Step from one patch to the next in px; by default half a patch.
        batch_size: Number of covered images that the network sees at once.

    Raises:
        InputError: If the patch is larger than the image, or the stride is larger than the patch.
    """
    index, x = subject.class_index(label), subject.x
    height, width = x.shape[2:]
    patch = check_positive_int("patch", max(1, round(min(height, width) / 7)) if patch is None else patch)
    stride = check_positive_int("stride", max(1, patch // 2) if stride is None else stride)
    if patch > min(height, width) or stride > patch:
        raise InputError(
            f"patch={patch} and stride={stride} do not cover an image of {height}x{width} px: the patch must fit into "
            "the image, and the stride be at most the patch"
        )
    starts = [range(0, math.ceil((side - patch) / stride) * stride + 1, stride) for side in (height, width)]
    corners = list(itertools.product(*starts))
    drops, covers = torch.zeros(2, height, width, dtype=torch.float64)
    size = check_positive_int("batch_size", batch_size)
    for first in range(0, len(corners), size):
        batch = corners[first : first + size]
        covered = x.repeat(len(batch), 1, 1, 1)
        for one, (top, left) in zip(covered, batch, strict=True):
            one[:, top : top + patch, left : left + patch] = 0
        with torch.no_grad():
            probabilities = subject.network.run(covered)[0].float().softmax(dim=1)[:, index].cpu()
        for (top, left), p in zip(batch, probabilities.tolist(), strict=True):
            window = (slice(top, top + patch), slice(left, left + patch))
            drops[window] += float(subject.probabilities[index]) - p
            covers[window] += 1
    return subject.attribution("occlusion", drops / covers, index, quantity="drop of the probability")
