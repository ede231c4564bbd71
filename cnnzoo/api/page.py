"""The interactive page of a network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from cnnzoo.api.inference import load_test_data
from cnnzoo.api.sources import create, load_network
from cnnzoo.api.specs import is_saved, list_models, resolve
from cnnzoo.data import Data, load_data
from cnnzoo.errors import InputError
from cnnzoo.files import atomic_write, require_new
from cnnzoo.live import PageImages, choose_images, page_network, render_page
from cnnzoo.modules import require_weights, unwrap
from cnnzoo.network import CNN
from cnnzoo.spec import Spec
from cnnzoo.train import Run

_SAMPLE = "fashion_mnist_sample"

LiveSource = CNN | Spec | Run | str | PathLike[str]


class LivePage:
    """An interactive page that was not written to a file: a notebook shows it, and ``str`` returns its HTML."""

    def __init__(self, page: str) -> None:
        self._page = page

    def __str__(self) -> str:
        return self._page

    def _repr_html_(self) -> str:
        style = "width:100%;height:820px;border:1px solid #8884;border-radius:8px"
        return f'<iframe title="interactive page" style="{style}" srcdoc="{html.escape(self._page)}"></iframe>'


def live(
    model: LiveSource,
    path: str | PathLike[str] | None = None,
    *,
    data: Data | str | None = None,
    beside: LiveSource | Sequence[LiveSource] = (),
    checkpoints: Sequence[CNN | str | PathLike[str]] = (),
    overwrite: bool = False,
) -> Path | LivePage:
    """Writes one offline HTML page in which a network runs: draw a picture, see every map, follow any unit.

    The page holds the weights and needs neither a network connection nor Python. Of a network without weights, it shows
    the blocks with their shapes, costs and receptive fields.

    Args:
        model: A network of the zoo; a run; the path of a saved network, ``hf://user/repo``, or a name whose weights
            ship. Any other registered name, or a Spec, is shown without weights, with ``lenet`` beside it.
        path: The file; by default the page is returned, and shown by a notebook.
        data: The data set from which test images are taken, or its name: the first 15 that the network classifies
            correctly, and 5 that it does not. By default the bundled sample of Fashion-MNIST, if the network has its
            classes.
        beside: Another network, or several, for the same picture.
        checkpoints: The same network at earlier points of its training, in order: the page has a slider for them.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The path; without one, a ``LivePage``.

    Raises:
        InputError: If a network is too large to run in a page, is not one of the zoo, or has a block that a page cannot
            compute; or if the data does not fit it.
        FileError: If the file exists or cannot be written, or a network cannot be read.
    """
    target = None if path is None else Path(path)
    if target is not None:
        require_new(target, overwrite)
    network = _load(model)
    others = [beside] if isinstance(beside, (CNN, Spec, Run, str, PathLike)) else list(beside)
    if isinstance(network, Spec) and not others and network.name != "lenet":
        others = [resolve("lenet")]
    networks = [page_network(network, [_load_checkpoint(one, network) for one in checkpoints])]
    networks += [page_network(_load(other)) for other in others]
    page = render_page(networks, _choose_images(network, data))
    if target is None:
        return LivePage(page)
    with atomic_write(target) as file:
        file.write(page.encode())
    return target


def _load(source: LiveSource) -> CNN | Spec:
    """Returns a network with its weights; the Spec of a name whose weights do not ship."""
    if isinstance(source, Spec):
        return source
    if isinstance(source, str) and not is_saved(source):
        spec = resolve(source)
        return create(source, pretrained=True) if source in list_models(pretrained=True) else spec
    network = unwrap(source.model if isinstance(source, Run) else load_network(source))
    if not isinstance(network, CNN):
        raise InputError(
            f"a page runs networks of cnnzoo, whose blocks are known, not {type(network).__name__}; build it with "
            "cnnzoo.create"
        )
    require_weights(network, network.spec.name)
    return network


def _load_checkpoint(source: CNN | str | PathLike[str], network: CNN | Spec) -> tuple[str, CNN]:
    """Returns the name of a checkpoint, and its network."""
    checkpoint = _load(source)
    if isinstance(checkpoint, Spec) or isinstance(network, Spec) or checkpoint.spec != network.spec:
        raise InputError(f"checkpoints must be the same network at other points of its training; {source} is not")
    return "" if isinstance(source, CNN) else Path(source).stem, checkpoint


def _choose_images(network: CNN | Spec, data: Data | str | None) -> PageImages | None:
    if isinstance(network, Spec) and data is not None:
        raise InputError(f"{network.name} has no weights, and classifies no images; leave out data=, or train it first")
    if isinstance(network, Spec):
        return None
    labels = network.metadata.label_names
    if data is None:
        sample = load_data(_SAMPLE)
        if labels is None or set(labels) != set(sample.classes) or network.metadata.preprocessing is None:
            return None
        data = sample
    elif isinstance(data, str):
        data = load_test_data(data, network)
    return choose_images(network, data, network.spec.name)
