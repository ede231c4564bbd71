"""Grad-CAM: feature maps weighted by the mean gradient of a class score (Selvaraju et al. 2017)."""

from __future__ import annotations

from cnnzoo.errors import InputError
from cnnzoo.explain.registry import register_explanation
from cnnzoo.explain.results import Attribution
from cnnzoo.explain.subject import Subject, gradient_of


@register_explanation("gradcam")
def gradcam(subject: Subject, label: str | int | None = None, layer: str | None = None) -> Attribution:
    """Returns the rectified sum of a layer's maps, each weighted by the mean of its gradient, (h, w).

    Args:
        subject: Network and image.
        label: Name or index of the class; by default the most probable one.
        layer: The layer; by default the one with the last maps larger than 1x1.

    Raises:
        InputError: If the layer has no maps, or the score does not depend on them.
    """
    index = subject.class_index(label)
    layer = subject.last_maps() if layer is None else layer
    x = subject.x.detach().requires_grad_()  # also frozen layers then have gradients
    scores, outs = subject.network.run(x, [layer])
    maps = outs[layer]
    if maps.dim() != 4:
        raise InputError(f"layer {layer!r} returns {tuple(maps.shape)}, no maps (N, C, h, w); name a layer with maps")
    gradient = gradient_of(scores[0, index], maps, f"layer {layer!r}", subject.network.name)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    values = (weights * maps).sum(dim=1)[0].relu()
    return subject.attribution("gradcam", values, index, quantity="weighted sum of maps", layer=layer)
