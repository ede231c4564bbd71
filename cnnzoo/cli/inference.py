"""The commands that use trained networks."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from cnnzoo.cli.group import print_error
from cnnzoo.cli.options import (
    add_data_options,
    json_option,
)
from cnnzoo.errors import DataError

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("model")
@add_data_options()
@click.option(
    "--views", default="single", show_default=True, help="'single', 'flip', 'center', 'five_crop', 'ten_crop'."
)
@click.option("--crop-mode", help="'squash', 'center' or 'border'; default: as in training.")
@click.option("--precision", default="fp32", show_default=True, help="'fp32', 'bf16', 'fp16' or 'auto'.")
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


@click.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
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
