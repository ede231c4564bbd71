"""Saliency: the gradient of a class score with respect to the pixels (Simonyan, Vedaldi, Zisserman 2013)."""

from __future__ import annotations

from cnnzoo.explain.registry import register_explanation
from cnnzoo.explain.results import Attribution
from cnnzoo.explain.subject import Subject


@register_explanation("saliency")
def saliency(subject: Subject, label: str | int | None = None) -> Attribution:
    """Returns the gradient of the score of a class with respect to the normalized input, (C, H, W).

    Args:
        subject: Network and image.
        label: Name or index of the class; by default the most probable one.
    """
    index = subject.class_index(label)
    return subject.attribution("saliency", subject.gradient(index), index, quantity="|gradient| of the score")
