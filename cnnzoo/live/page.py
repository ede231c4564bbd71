"""Renders the interactive page: one HTML file with networks, test images, and the scripts that run them."""

from __future__ import annotations

import dataclasses
import html
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cnnzoo.blocks import BLOCKS, Shape
from cnnzoo.blocks.build import infer_shape
from cnnzoo.errors import InputError
from cnnzoo.live.images import PageImages
from cnnzoo.measure import count
from cnnzoo.network import CNN
from cnnzoo.spec import Spec
from cnnzoo.weights import save

_FOLDER = Path(__file__).parent / "page"
# the scripts in the order in which they are read; the engine runs in the page and in a worker
_ENGINE = ("safetensors", "kernels", "operations", "builders", "network", "random", "preprocessing")
_VIEWS = ("dom", "state", "pad", "gallery", "bars", "words", "unit", "maps", "inspector", "scale", "app")

# what the scripts can compute
KINDS = (
    "Activation", "AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool", "Conv", "Dense", "Dropout", "Flatten", "LRN",
    "Logits", "MaxPool", "Norm", "Pad", "Parallel", "RBF", "Subsample", "TableConv", "UnitBias",
)  # fmt: skip
ACTIVATION_NAMES = (
    "relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "hardswish", "sigmoid", "tanh", "scaled_tanh",
)  # fmt: skip
NORM_NAMES = ("batch", "instance", "group", "layer")
MAX_PARAMS = 2**23
MAX_MACS = 4_000_000_000  # about ten seconds


@dataclass(frozen=True)
class PageNetwork:
    """A network of a page.

    Attributes:
        spec: The network.
        file: Its weights file; None for a network without weights.
        checkpoints: Name and weights file of the same network at earlier points of its training, in order.
    """

    spec: Spec
    file: bytes | None = None
    checkpoints: tuple[tuple[str, bytes], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the network as plain values, for JSON."""
        if self.file is None:
            return {"description": {"cnnzoo": {"spec": self.spec.to_dict()}}}
        checkpoints = [{"name": name, "file": b64encode(file).decode()} for name, file in self.checkpoints]
        return {"file": b64encode(self.file).decode(), "checkpoints": checkpoints}


def page_network(network: CNN | Spec, checkpoints: Sequence[tuple[str, CNN]] = ()) -> PageNetwork:
    """Returns a network as a page holds it: with its weights, or, of a Spec, without.

    Args:
        network: The network.
        checkpoints: Names, and the network at earlier points of its training.

    Raises:
        InputError: If the network is too large to run in a page, or has a block that a page cannot compute.
        ChangedModuleError: If modules were changed by hand.
    """
    spec = network if isinstance(network, Spec) else network.spec
    require_known_blocks(spec)
    if isinstance(network, Spec):
        return PageNetwork(spec)
    if len(shape := _output_shape(spec)) != 1:
        raise InputError(f"{spec.name} returns {shape} for an image; a page needs one score per class: add Flatten()")
    hint = f"cnnzoo.live({spec.name!r}) shows its blocks without weights"
    params = sum(parameter.numel() for parameter in network.parameters())
    if params > MAX_PARAMS:
        raise InputError(f"{spec.name} has {params:,} parameters; a page runs networks of up to {MAX_PARAMS:,}. {hint}")
    # a weight is used at most once per place of a map: small networks need no count
    is_small = params * spec.input[1] * spec.input[2] <= MAX_MACS
    if not is_small and (macs := count(network, (1, *spec.input)).macs) > MAX_MACS:
        raise InputError(f"{spec.name} needs {macs:,} MACs for an image; a page runs up to {MAX_MACS:,}. {hint}")
    return PageNetwork(spec, _file(network), tuple((name, _file(checkpoint)) for name, checkpoint in checkpoints))


def _output_shape(spec: Spec) -> Shape:
    """Returns the shape of what a network returns for one image, without the batch dimension."""
    shape: Shape = spec.input
    for block in (*spec.features, *spec.classifier):
        shape = infer_shape(block, shape).shape
    return shape


def _file(network: CNN) -> bytes:
    """Returns the weights file of a network."""
    with TemporaryDirectory() as folder:
        return save(network, Path(folder) / "page.safetensors").read_bytes()


def require_known_blocks(spec: Spec) -> None:
    """Raises InputError about a block that a page cannot compute, such as one that a user has registered."""
    for label, block in spec.blocks():
        names = {
            "kind of block": (type(block).__name__, KINDS),
            "activation": (getattr(block, "activation", None), ACTIVATION_NAMES),
            "norm": ((getattr(block, "norm", None) or "").partition(":")[0] or None, NORM_NAMES),
        }
        for what, (name, known) in names.items():
            if name is not None and name not in known:
                raise InputError(
                    f"a page cannot compute the {what} {name!r} of block {label!r} of {spec.name}; it computes "
                    f"{', '.join(known)}"
                )


def render_page(networks: Sequence[PageNetwork], images: PageImages | None) -> str:
    """Returns the page as HTML.

    Args:
        networks: The networks; the first is shown first.
        images: The test images; None if there are none.
    """
    data = {
        "networks": [network.to_dict() for network in networks],
        "images": None if images is None else images.to_dict(),
    }
    parts = {
        "<!-- title -->": html.escape(networks[0].spec.name),
        "/* style */": _read("style.css"),
        "/* data */": _json(data),
        "/* engine */": engine(),
        "/* worker */": _read("worker.js"),
        "/* views */": "\n".join(_read(f"{name}.js") for name in _VIEWS),
    }
    page = _read("index.html")
    for mark, text in parts.items():
        page = page.replace(mark, text)
    return page


def engine() -> str:
    """Returns the scripts that read and run networks."""
    return "\n".join([f"const FIELDS = {_json(_fields())};", *(_read(f"{name}.js") for name in _ENGINE)])


def _fields() -> dict[str, dict[str, Any]]:
    """Returns the fields of each kind of block in order, and the defaults that files leave out."""
    result = {}
    for kind in KINDS:
        fields = [item for item in dataclasses.fields(BLOCKS[kind]) if item.name != "label"]
        defaults = {item.name: item.default for item in fields if item.default is not dataclasses.MISSING}
        result[kind] = {"names": [item.name for item in fields], "defaults": defaults}
    return result


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """Returns a value as JSON that cannot end a script element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
