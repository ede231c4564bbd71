"""The table of the page "Which AlexNet?"."""

from __future__ import annotations

import cnnzoo
from sitegen.registry import count

NETWORKS = {
    "alexnet_2012": "Krizhevsky, Sutskever, Hinton 2012",
    "caffenet": "Caffe, 2013",
    "alexnet_owt": "torchvision's `alexnet`; Krizhevsky 2014",
    "alexnet": "Dive into Deep Learning",
}


def table() -> str:
    """Returns a table: source, image, maps of the convolutions, parameters, multiply-adds."""
    lines = [
        "| cnnzoo | source | image, classes | maps, conv1 to conv5 | parameters | multiply-adds |",
        "| --- | --- | --- | --- | ---: | ---: |",
    ]
    for name, source in NETWORKS.items():
        spec, report = cnnzoo.get_spec(name), count(name)
        channels, height, width = spec.input
        maps = [str(layer.out_shape[1]) for layer in report.layers if layer.kind == "Conv2d"]
        lines.append(
            f"| `{name}` | {source} | {channels}x{height}x{width}, {spec.num_classes:,} | {'-'.join(maps)} | "
            f"{report.params.total:,} | {report.macs:,} |"
        )
    return "\n".join(lines)
