"""The commands that use trained networks."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from cnnzoo.cli.options import (
    add_data_options,
    json_option,
    setting_type,
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
            click.echo(f"error: {error}", err=True)
            errors += 1
            continue
        results[file] = dict(prediction.top())
        if not as_json:
            click.echo(f"{file}\n{prediction}" if len(files) > 1 else str(prediction))
    if as_json:
        click.echo(json.dumps(results))
    if errors:
        sys.exit(1)


@click.command()
@click.argument("model")
@click.argument("image", required=False)
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
    "--set", "settings", type=setting_type, multiple=True, help="An option of the method, such as patch=5 (repeatable)."
)
@click.option("-o", "--out", required=True, help="The picture: out.png, .svg or .pdf.")
def explain(
    model: str,
    image: str | None,
    method: str,
    label: str | None,
    layer: str | None,
    settings: tuple[tuple[str, Any], ...],
    out: str,
) -> None:
    """Explain what the network MODEL (as for evaluate) computes for an IMAGE, in a picture; filters need no IMAGE."""
    from cnnzoo import api

    options = dict(settings)
    for option, name, value in (("--class", "label", label), ("--layer", "layer", layer)):
        if value is not None and name in options:
            raise click.UsageError(f"{option} and --set {name}= set the same: give one of them")
        if value is not None:
            options[name] = value
    explanation = api.explain(model, image, method, **options)
    explanation.plot(out)
    click.echo(explanation)
