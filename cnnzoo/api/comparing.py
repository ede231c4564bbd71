"""Networks side by side: counts, and the results of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Union

from cnnzoo.api.counting import count
from cnnzoo.api.naming import distinct_names, spec_of
from cnnzoo.api.specs import Source, resolve
from cnnzoo.errors import InputError, unknown
from cnnzoo.measure import Comparison, CountReport
from cnnzoo.registry import get_spec, is_model
from cnnzoo.spec import Spec
from cnnzoo.verify import claims

if TYPE_CHECKING:
    from torch import nn

    from cnnzoo.data import Data
    from cnnzoo.preprocessing import Preprocessing
    from cnnzoo.train import TrainConfig

Network = Union[Source, CountReport, "nn.Module"]
InputSizes = Sequence[int] | Sequence[Sequence[int] | None]


def compare(
    *sources: Network | Mapping[str, Network],
    names: Sequence[str] | None = None,
    input_size: InputSizes | None = None,
    preprocessing: Preprocessing | None = None,
    baseline: int | str = -1,
    train: Data | None = None,
    recipe: str | TrainConfig = "quick",
    settings: Mapping[str, Any] | None = None,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    resume: str | None = None,
) -> Comparison:
    """Compares two or more networks: counts, ratios and published figures; with ``train``, also their training.

    Args:
        *sources: Names, also with knobs, ``"lenet(activation=relu)"``; Specs, any modules, or CountReports. Or one
            mapping from names of your own to these.
        names: Names for tables, pictures and folders, one per network; by default those of the networks, with the
            knobs that tell them apart.
        input_size: Shape of the input, batch included: (N, C, H, W); or one per network, with None for a network's own.
            By default, one image of the network's own size; modules outside of the zoo need it, unless their metadata
            or ``preprocessing`` have the size of images.
        preprocessing: The size and channels of images, for modules whose metadata have no preprocessing.
        baseline: The network that the ratios are relative to, by index or name; by default the last.
        train: A data set on which a copy of each network is trained; networks given by name or Spec are built for its
            channels and classes, saved ones are adapted to them and continue from their weights, and other modules
            take images of its size.
        recipe: The training: a TrainConfig, or the name of a recipe, such as ``"quick"``: networks of one kind get the
            same settings (see ``cnnzoo.recipe``).
        settings: Fields of the TrainConfig to replace, by name.
        out: With ``train``: a folder for the runs (one subfolder each), ``compare.json`` and ``compare.png``.
        overwrite: Whether existing runs may be replaced.
        resume: ``"auto"`` completes the runs in ``out``: finished ones are not trained again.

    Raises:
        InputError: If there are fewer than two networks, one cannot be counted or trained, or ``names`` are not one per
            network.
        FileError: If ``out`` holds runs, or cannot be written.
    """
    networks, names = _named_networks(sources, names)
    if train is None:
        for argument, value in (("out", out), ("settings", settings)):
            if value:
                raise InputError(f"{argument}= is for training; give a data set in train= too")
        return compare_counts(networks, names, _sizes(input_size, len(networks)), preprocessing, baseline)
    if input_size is not None:
        raise InputError("input_size= is for counts alone: with train=, networks take the images of the data set")
    from cnnzoo.api.comparing_runs import compare_runs

    return compare_runs(
        networks,
        names,
        preprocessing=preprocessing,
        baseline=baseline,
        data=train,
        recipe=recipe,
        settings=settings or {},
        out=out,
        overwrite=overwrite,
        resume=resume,
    )


def _named_networks(
    sources: Sequence[Network | Mapping[str, Network]], names: Sequence[str] | None
) -> tuple[list[Network], Sequence[str] | None]:
    """Returns the networks and their names, if these are given."""
    mappings = [source for source in sources if isinstance(source, Mapping)]
    if not mappings:
        return [source for source in sources if not isinstance(source, Mapping)], names
    if len(sources) > 1 or names is not None:
        raise InputError("give either networks, or one mapping from names to networks: compare({'a': net, 'b': other})")
    return list(mappings[0].values()), list(mappings[0])


def _sizes(input_size: InputSizes | None, n: int) -> list[Sequence[int] | None]:
    """Returns the input size of each of n networks; None for a network's own."""
    if not isinstance(input_size, Sequence) or not any(
        size is None or isinstance(size, Sequence) for size in input_size
    ):
        return [input_size] * n  # type: ignore[list-item]  # count refuses what is not a size
    if len(input_size) != n:
        raise InputError(f"input_size must be one shape (N, C, H, W), or one per network, {n}; not {input_size!r}")
    return list(input_size)  # type: ignore[arg-type]


def compare_counts(
    networks: Sequence[Network],
    names: Sequence[str] | None,
    sizes: Sequence[Sequence[int] | None],
    preprocessing: Preprocessing | None,
    baseline: int | str,
    *,
    sources: Sequence[Network] = (),
) -> Comparison:
    """Compares counts.

    Args:
        networks: The networks to count.
        names: Their names, or None.
        sizes: Shape of the input of each, or None.
        preprocessing: As for ``compare``.
        baseline: As for ``compare``.
        sources: What the networks were given as, from which their names come, if these are not the networks.
    """
    reports = [_count(network, size, preprocessing) for network, size in zip(networks, sizes, strict=True)]
    own = [report.name for report in reports]
    labels = distinct_names(sources or networks, own, names)
    reports = [dataclasses.replace(report, name=label) for report, label in zip(reports, labels, strict=True)]
    if isinstance(baseline, str):
        if baseline not in labels:
            raise unknown("network", baseline, labels)
        baseline = labels.index(baseline)
    one_image = all(size is None for size in sizes)
    as_registered = one_image and len(own) > 1 and len(set(own)) == len(own) and all(map(_is_registered, networks))
    return Comparison(reports, baseline, claims(own) if as_registered else ())


def _count(network: Network, size: Sequence[int] | None, preprocessing: Preprocessing | None) -> CountReport:
    if isinstance(network, CountReport):
        if size is not None:
            raise InputError(f"{network.name} is counted already, at {network.input_text}; its input_size must be None")
        return network
    if size is not None or isinstance(network, (str, PathLike, Spec)):
        return count(network, size)
    from torch import nn

    from cnnzoo.api.sources import image_shape, name_of
    from cnnzoo.metadata import get_metadata
    from cnnzoo.modules import unwrap

    if not isinstance(network, nn.Module):
        raise InputError(f"compare expects names, Specs, modules and CountReports, not {type(network).__name__}")
    if spec_of(network) is not None:
        return count(network)
    if preprocessing is None and get_metadata(unwrap(network)).preprocessing is None:
        raise InputError(
            f"the input of {name_of(network)} is not known; give compare(..., input_size=(N, C, H, W)), such as "
            "(1, 3, 224, 224), or one input_size per network, in a list"
        )
    return count(network, (1, *image_shape(network, preprocessing)))


def _is_registered(network: Network) -> bool:
    """Returns whether a network equals the registered one of its name, to which published figures apply."""
    spec = resolve(network) if isinstance(network, (str, PathLike)) else spec_of(network)
    return spec is not None and is_model(spec.name) and spec == get_spec(spec.name)
