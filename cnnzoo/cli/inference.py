"""The commands that use trained networks."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from cnnzoo.cli.completion import CROP_MODES, FILE, MODEL, PRECISIONS, VIEWS, examples
from cnnzoo.cli.group import print_error
from cnnzoo.cli.options import add_data_options, json_option
from cnnzoo.errors import DataError


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
