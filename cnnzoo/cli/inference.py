"""The commands that use trained networks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from cnnzoo.cli.completion import CROP_MODES, FILE, MODEL, OPTION, PRECISIONS, VIEWS, examples
from cnnzoo.cli.group import print_error
from cnnzoo.cli.options import add_data_options, json_option, replace_option
from cnnzoo.errors import DataError
from cnnzoo.files import require_new


@click.command(
    epilog=examples(
        "cnnzoo evaluate lenet",
        "cnnzoo evaluate runs/photos --data folder:photos",
        "cnnzoo evaluate runs/lenet --data fashion_mnist --views ten_crop --json",
    )
)
@click.argument("model", type=MODEL)
@add_data_options()
@click.option(
    "--views", type=click.Choice(VIEWS), default="single", show_default=True, help="Views of each image to average."
)
@click.option(
    "--crop-mode",
    type=click.Choice(CROP_MODES),
    help="How images of another size are cropped; default: as in training.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True, help="Precision.")
@json_option
def evaluate(
    model: str,
    data: str,
    data_options: dict[str, Any],
    views: str,
    crop_mode: str | None,
    precision: str,
    as_json: bool,
) -> None:
    """Evaluate MODEL (a file, a run folder, hf://user/repo, a name whose weights ship) on the images of a data set.

    These are its test images. Of a folder or table without any, every image is used, unless MODEL was trained on it.
    """
    from cnnzoo import api

    network = api.load_network(model)
    images = api.load_test_data(data, network, **data_options)
    evaluation = api.evaluate(network, images, views=views, crop_mode=crop_mode, precision=precision)
    click.echo(evaluation.to_json() if as_json else str(evaluation))


@click.command(epilog=examples("cnnzoo predict lenet shoe.png", "cnnzoo predict runs/photos photos/test --json"))
@click.argument("model", type=MODEL)
@click.argument("images", type=FILE, nargs=-1, required=True, metavar="IMAGE...")
@json_option
def predict(model: str, images: tuple[str, ...], as_json: bool) -> None:
    """Classify each IMAGE with the network MODEL (as for evaluate): its five most probable classes."""
    from cnnzoo import api
    from cnnzoo.prediction import expand_folders
    from cnnzoo.progress_bar import track

    files = expand_folders(images)
    network = api.load_network(model)
    results: dict[str, dict[str, float]] = {}
    errors = 0
    for file in track(list(map(str, files)), "classifying") if as_json or not sys.stdout.isatty() else map(str, files):
        try:
            prediction = api.predict(network, file)
        except DataError as error:  # the other images are classified all the same
            print_error(error)
            errors += 1
            continue
        results[file] = dict(prediction.top())
        if not as_json:
            click.echo(f"{file}\n{prediction}" if len(files) > 1 else str(prediction))
    if as_json:
        click.echo(json.dumps(results))
    if errors:
        sys.exit(1)


@click.command(
    epilog=examples(
        "cnnzoo explain lenet shoe.png -o shoe.png",
        "cnnzoo explain runs/photos cat.jpg --method occlusion --set patch=32 -o cat.svg",
        "cnnzoo explain lenet --method filters --layer conv1 -o filters.png",
    )
)
@click.argument("model", type=MODEL)
@click.argument("image", type=FILE, required=False)
@click.option(
    "--method",
    default="gradcam",
    show_default=True,
    help="'gradcam', 'saliency', 'occlusion', 'deconvnet', 'activations', 'filters', or one of your own.",
)
@click.option(
    "--class", "label", metavar="NAME", help="The class to explain, or its number; default: the predicted one."
)
@click.option("--layer", metavar="NAME", help="Label of a block, such as conv5, or name of a module.")
@click.option(
    "--set", "settings", type=OPTION, multiple=True, help="An option of the method, such as patch=5 (repeatable)."
)
@click.option("-o", "--out", type=FILE, required=True, help="The picture: out.png, .svg or .pdf.")
@replace_option
def explain(
    model: str,
    image: str | None,
    method: str,
    label: str | None,
    layer: str | None,
    settings: tuple[tuple[str, Any], ...],
    out: str,
    overwrite: bool,
) -> None:
    """Explain what the network MODEL (as for evaluate) computes for an IMAGE, in a picture; filters need no IMAGE."""
    from cnnzoo import api

    options = dict(settings)
    for option, name, value in (("--class", "label", label), ("--layer", "layer", layer)):
        if value is not None and name in options:
            raise click.UsageError(f"{option} and --set {name}= set the same: give one of them")
        if value is not None:
            options[name] = value
    require_new(Path(out), overwrite)
    explanation = api.explain(model, image, method, **options)
    explanation.plot(out)
    click.echo(f"{explanation}\n{out}")


@click.command(
    epilog=examples(
        "cnnzoo live lenet -o lenet.html",
        "cnnzoo live runs/photos -o photos.html --data folder:photos",
        "cnnzoo live alexnet -o alexnet.html",
    )
)
@click.argument("model", type=MODEL)
@click.option("-o", "--out", type=FILE, required=True, help="The page: lenet.html.")
@add_data_options(None, "; default: the bundled sample, if MODEL has its classes")
@click.option(
    "--beside", type=MODEL, multiple=True, metavar="MODEL", help="Another network for the same picture (repeatable)."
)
@click.option(
    "--checkpoint",
    "checkpoints",
    type=FILE,
    multiple=True,
    help="MODEL earlier in its training (repeatable, in order).",
)
@replace_option
def live(
    model: str,
    out: str,
    data: str | None,
    data_options: dict[str, Any],
    beside: tuple[str, ...],
    checkpoints: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Write an offline HTML page in which MODEL runs: draw, see every map, follow any unit.

    MODEL is as for evaluate. Of any other registered name, the page shows the blocks without weights.
    """
    from cnnzoo import api

    if data_options and data is None:
        raise click.UsageError("the options of data sets need --data")
    images = None if data is None else api.load_test_data(data, api.load_network(model), **data_options)
    click.echo(api.live(model, out, data=images, beside=beside, checkpoints=checkpoints, overwrite=overwrite))
