"""The options that commands share."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import click

from cnnzoo.cli.completion import DATA, FILE, KNOB, OPTIMIZER, PRECISIONS, SETTING

SAMPLE = "fashion_mnist_sample"
PRETRAINED_HELP = "Start from trained weights: those that ship, TAG such as 'torchvision', or a file."


knobs_option = click.option(
    "--knob",
    "-k",
    "knobs",
    type=KNOB,
    multiple=True,
    help="A knob of the network, such as in_channels=3 (repeatable).",
)


class _Shape(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """The shape of an input, batch included: 1x3x224x224."""

    name = "NxCxHxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        sizes = re.split("[x,]", str(value))
        if len(sizes) < 2 or not all(re.fullmatch("[1-9][0-9]*", size) for size in sizes):
            self.fail(f"{value!r} is not a shape such as 1x3x224x224", param, ctx)
        return tuple(map(int, sizes))


input_size_option = click.option(
    "--input-size",
    type=_Shape(),
    metavar="NxCxHxW",
    help="Shape of the input, 1x3x224x224; default: one image of the network's size.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
html_option = click.option("--html", type=FILE, metavar="FILE", help="Also write an HTML page with tables and figures.")
settings_option = click.option(
    "--set",
    "settings",
    type=SETTING,
    multiple=True,
    help="A field of the recipe, such as lr=0.05 (repeatable); `cnnzoo recipes quick` lists them.",
)
replace_option = click.option("--overwrite", is_flag=True, help="Replace an existing file.")


def print_written(path: object) -> None:
    """Prints the path of a file beside the results, which are on standard output."""
    click.echo(f"wrote {path}", err=True)


def add_data_options(default: str | None = SAMPLE, more_help: str = "") -> Callable[[Any], Any]:
    """Adds --data, and the options of ``load_data``: those that are given are passed on as ``data_options``."""
    options = (
        click.option("--image-size", type=int, help="Shorter side in px that images are resized to, and cropped."),
        click.option("--image-column", metavar="NAME", help="The column of images of csv: and hf:; default: file."),
        click.option("--label-column", metavar="NAME", help="The column of labels of csv: and hf:; default: label."),
        click.option("--skip-bad", is_flag=True, default=None, help="Leave out images that cannot be read."),
    )
    names = ("image_size", "image_column", "label_column", "skip_bad")

    def add(command: Any) -> Any:
        @functools.wraps(command)
        def with_options(**arguments: Any) -> Any:
            given = {name: value for name in names if (value := arguments.pop(name)) is not None}
            return command(**arguments, data_options=given)

        for option in reversed(options):
            with_options = option(with_options)
        help = f"Name of a data set, folder:PATH, csv:PATH or hf:NAME{more_help}."
        return click.option("--data", type=DATA, default=default, show_default=default is not None, help=help)(
            with_options
        )

    return add


def training_memory_options(command: Any) -> Any:
    """Adds --train, and the options of ``CountReport.training_memory``.

    They are passed on as ``training``, None without --train, and ``available``, the text of --memory.
    """
    options = (
        click.option("--train", is_flag=True, help="Also compute the memory of a training step."),
        click.option("--batch-size", type=click.IntRange(1), help="Batch size of the step; default: as counted."),
        click.option(
            "--optimizer", type=OPTIMIZER, help="'sgd' (default), 'momentum', 'adam', 'adamw', or values per parameter."
        ),
        click.option("--precision", type=click.Choice(PRECISIONS[1:]), help="Precision of the step; default: fp32."),
        click.option("--freeze", "frozen", multiple=True, help="Pattern of layers to freeze, 'conv*' (repeatable)."),
        click.option("--memory", "available", help="Memory of the device, '8 GB': does the step fit, and which would?"),
    )
    names = ("batch_size", "optimizer", "precision", "frozen")

    @functools.wraps(command)
    def with_options(*, train: bool, available: str | None, **arguments: Any) -> Any:
        training = {name: value for name in names if (value := arguments.pop(name))}
        if not train and (training or available):
            option = "freeze" if "frozen" in training else next(iter(training), "memory").replace("_", "-")
            raise click.UsageError(f"--{option} is about the memory of a training step: give --train too")
        return command(**arguments, training=training if train else None, available=available)

    for option in reversed(options):
        with_options = option(with_options)
    return with_options


def hub_option(command: Any) -> Any:
    """Adds the option --endpoint; a token is not an option, since other users can read command lines."""
    return click.option("--endpoint", metavar="URL", help="Address of the Hub; default: HF_ENDPOINT.")(command)
