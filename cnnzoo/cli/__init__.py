"""The command line: the verbs of the library under the same names. Each command parses, calls and prints."""

from __future__ import annotations

import click

from cnnzoo.cli import inference, networks, sharing, training
from cnnzoo.cli.group import Commands
from cnnzoo.version import __version__

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cnnzoo")
def main() -> None:
    """The classic convolutional networks: count, compare, train and share them."""


main.add_section(
    "Look at networks",
    networks.list_,
    networks.summary,
    networks.compare,
    networks.diff,
    networks.draw,
    networks.timeline,
    networks.verify,
    networks.bench,
)
main.add_section(
    "Train and use them",
    training.train,
    training.recipes,
    training.report,
    inference.evaluate,
    inference.predict,
    inference.explain,
    inference.live,
)
main.add_section("Share them", sharing.import_, sharing.export, sharing.push, sharing.pull)
