"""The commands that look at networks: each parses, calls and prints."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnzoo.cli.completion import DEVICE, FILE, FOLDER, MODEL, PRECISIONS, RECIPE, examples
from cnnzoo.cli.options import (
    add_data_options,
    html_option,
    input_size_option,
    json_option,
    knobs_option,
    print_written,
    replace_option,
    settings_option,
    training_memory_options,
)
from cnnzoo.errors import unknown
from cnnzoo.files import require_new
from cnnzoo.knobs import format_name

if TYPE_CHECKING:
    from cnnzoo.measure import CountReport
    from cnnzoo.published import Deviation
    from cnnzoo.verify import Finding


@click.command("list", epilog=examples("cnnzoo list", 'cnnzoo list "res*"', "cnnzoo list --pretrained --json"))
@click.argument("pattern", type=MODEL, default="*")
@click.option("--pretrained", is_flag=True, help="List only models whose weights ship with cnnzoo.")
@click.option("--tags", is_flag=True, help="List the pretrained weights of these models, with their tags.")
@json_option
def list_(pattern: str, pretrained: bool, tags: bool, as_json: bool) -> None:
    """List the models whose names match PATTERN, a wildcard: with year, images and cost on a terminal.

    Piped into another command, only their names, a line each.
    """
    from cnnzoo.api import list_models

    if tags:
        from cnnzoo.weights import list_pretrained

        found = list_pretrained(pattern)
        if not found and pattern != "*":
            raise unknown("model with pretrained weights", pattern, {one.model for one in list_pretrained()})
        click.echo(json.dumps([one.to_dict() for one in found]) if as_json else "\n".join(map(str, found)))
        return

    names = list_models(pattern, pretrained=pretrained)
    if not names and pattern != "*":
        raise unknown("model", pattern, list_models(pretrained=pretrained))
    if not as_json and not sys.stdout.isatty():
        click.echo("\n".join(names))
        return
    from cnnzoo.api import catalog

    models = catalog(pattern, pretrained=pretrained)
    click.echo(models.to_json() if as_json else models.text(color=True))


@click.command(
    epilog=examples(
        "cnnzoo summary alexnet -k in_channels=3",
        "cnnzoo summary torchvision:resnet50 --depth 2 --columns layer,output,MACs",
        'cnnzoo summary vgg16 --train --batch-size 64 --optimizer adamw --memory "16 GB"',
    )
)
@click.argument("name", type=MODEL)
@knobs_option
@input_size_option
@click.option("--depth", type=click.IntRange(1), help="Modules (of zoo networks: blocks) in this depth share a line.")
@click.option("--columns", metavar="A,B,...", help="Columns, such as layer,kernel,output,MACs; or 'all'.")
@click.option("--sort", metavar="COLUMN", help="Largest values of a column first.")
@click.option("--all", "show_all", is_flag=True, help="A line per layer: repeated blocks are not folded.")
@training_memory_options
@html_option
@replace_option
@json_option
def summary(
    name: str,
    knobs: tuple[tuple[str, Any], ...],
    input_size: tuple[int, ...] | None,
    depth: int | None,
    columns: str | None,
    sort: str | None,
    show_all: bool,
    html: str | None,
    overwrite: bool,
    as_json: bool,
    training: dict[str, Any] | None,
    available: str | None,
) -> None:
    """Count the model NAME, layer by layer.

    NAME is a registered name or a saved network; or torchvision:resnet18, timm:NAME, or MODULE:FACTORY, a function or
    class of a Python module, whose arguments are the knobs.

    With --train, also compute the memory of a training step.
    """
    from cnnzoo.api import write_page

    if depth is not None and show_all:
        raise click.UsageError("--all shows every layer, --depth those down to a depth: give one of them")
    report = _count(name, dict(knobs), input_size, train=training is not None)
    memory = None if training is None else report.training_memory(**training)
    names = columns if columns in (None, "all") else [column for column in columns.split(",") if column.strip()]
    table = report.table(depth or (None if show_all else "auto"), not show_all, names, sort)
    if html:
        print_written(write_page(report, html, memory, overwrite=overwrite))
    values = report.to_dict()
    lines = [table.text()]
    if training is not None and memory is not None:
        values["training_memory"] = memory.to_dict()
        lines += ["", str(memory)]
    if training is not None and memory is not None and available is not None:
        from cnnzoo.measure.memory import parse_bytes

        training.pop("batch_size", None)
        largest = report.max_batch_size(available, **training)
        fits = memory.total <= parse_bytes(available)
        values["training_memory"] |= {"fits": fits, "max_batch_size": largest}
        verdict = click.style("fits", fg="green") if fits else click.style("does not fit", fg="red")
        lines.append(f"{available}: {verdict}; the largest batch size is {largest:,}")
    click.echo(json.dumps(values, indent=2) if as_json else "\n".join(lines))


def _count(name: str, knobs: dict[str, Any], input_size: tuple[int, ...] | None, train: bool) -> CountReport:
    """Counts a network that a command line names."""
    from cnnzoo.api import count, resolve
    from cnnzoo.api.factories import count_factory, is_factory

    if is_factory(name):
        return count_factory(name, input_size, knobs, train)
    return count(resolve(name, **knobs), input_size)


@click.command(
    epilog=examples(
        "cnnzoo compare alexnet lenet",
        "cnnzoo compare alexnet vgg16 torchvision:resnet18 --html page.html",
        'cnnzoo compare lenet "lenet(activation=relu,pooling=max)" --train --set epochs=5',
    )
)
@click.argument("names", type=MODEL, nargs=-1, required=True)
@knobs_option
@input_size_option
@click.option(
    "--baseline", type=MODEL, default="-1", show_default=True, help="The model that ratios refer to: index or name."
)
@click.option("--train", is_flag=True, help="Also train them, and compare the results.")
@add_data_options()
@click.option("--recipe", type=RECIPE, default="quick", show_default=True, help="Name of a recipe, or a JSON file.")
@settings_option
@click.option(
    "--out", type=FOLDER, default="runs/compare", show_default=True, help="Folder for the runs and the picture."
)
@click.option("--overwrite", is_flag=True, help="Replace existing runs, and an existing page.")
@html_option
@json_option
def compare(
    names: tuple[str, ...],
    knobs: tuple[tuple[str, Any], ...],
    input_size: tuple[int, ...] | None,
    baseline: str,
    train: bool,
    data: str,
    data_options: dict[str, Any],
    recipe: str,
    settings: tuple[tuple[str, Any], ...],
    out: str,
    overwrite: bool,
    html: str | None,
    as_json: bool,
) -> None:
    """Compare the models NAMES: counts, ratios and published figures.

    They are named as for summary. Knobs are for all of them; for one, they are written behind its name,
    'lenet(activation=relu)'.
    """
    from cnnzoo import api
    from cnnzoo.api.factories import count_factory, is_factory

    if settings and not train:
        raise click.UsageError("--set is for training: give --train too")
    if train and (input_size or any(map(is_factory, names))):
        raise click.UsageError("--train is for networks of the zoo, on images of the data: leave out --input-size")
    base = int(baseline) if baseline.removeprefix("-").isdigit() else baseline
    sources: list[Any] = [
        count_factory(name, input_size, dict(knobs)) if is_factory(name) else _with_knobs(name, dict(knobs), train)
        for name in names
    ]
    sizes = [None if is_factory(name) else input_size for name in names]
    comparison = api.compare(*sources, baseline=base, input_size=sizes if input_size else None)
    if not as_json:
        for report in comparison.reports if len(names) == 2 else ():
            click.echo(f"{report}\n")
        click.echo(comparison)
    if train:
        from cnnzoo.data import load_data

        images = load_data(data, **data_options)
        if not as_json:
            click.echo(f"\ntraining on {len(images.train):,} images of {images.name}, recipe {recipe!r}")
        comparison = api.compare(
            *sources,
            baseline=base,
            train=images,
            recipe=recipe,
            settings=dict(settings),
            out=out,
            overwrite=overwrite,
            resume="auto",
        )
        if not as_json:
            click.echo(f"\n{comparison.results_table().text()}")
            click.echo(f"{out}/: a run per network, compare.json, compare.png")
            click.echo(f"  cnnzoo report {shlex.quote(out)}  # a page about them")
    if html:
        print_written(api.write_page(comparison, html, overwrite=overwrite))
    if as_json:
        click.echo(comparison.to_json())
    if any(result.get("interrupted") for result in comparison.results):
        click.echo(
            f"interrupted; the finished runs are in {out}, and the same command again trains the others", err=True
        )
        sys.exit(130)


def _with_knobs(name: str, knobs: dict[str, Any], train: bool) -> Any:
    """Returns a network with the knobs of a command line."""
    from cnnzoo import api

    if not knobs:
        return name
    source, own_knobs = api.split_knobs(name, knobs)
    if not api.is_saved(source):
        return format_name(str(source), own_knobs)
    if train:
        raise click.UsageError(f"--knob changes new networks; {name} has weights")
    return api.resolve(source, **own_knobs)


@click.command(epilog=examples("cnnzoo diff alexnet alexnet_2012", 'cnnzoo diff lenet "lenet(pooling=max)" --json'))
@click.argument("a", type=MODEL)
@click.argument("b", type=MODEL)
@knobs_option
@json_option
def diff(a: str, b: str, knobs: tuple[tuple[str, Any], ...], as_json: bool) -> None:
    """Show block by block how the model B differs from A, and the effect on parameters and MACs."""
    from cnnzoo import api

    difference = api.diff(a, b, **dict(knobs))
    click.echo(difference.to_json() if as_json else difference.text(color=True))


@click.command(
    epilog=examples("cnnzoo draw alexnet -o alexnet.svg", "cnnzoo draw lenet -k activation=relu -o lenet.pdf")
)
@click.argument("name", type=MODEL)
@knobs_option
@click.option("-o", "--out", type=FILE, required=True, help="The file: alexnet.svg, .pdf, .png, or .tex for TikZ.")
@click.option(
    "--detail",
    type=click.Choice(["stage", "block", "layer"]),
    help="What one box stands for; by default the most detailed picture that fits on a page.",
)
@click.option("--width", type=float, default=5.5, show_default=True, help="Width of the picture in inches.")
@click.option("--columns", type=int, help="Maximum number of boxes in a line.")
@click.option(
    "--show",
    type=click.Choice(["kernel", "activation", "parameters", "macs"]),
    multiple=True,
    default=("kernel", "activation"),
    help="What is written below a box (repeatable); by default kernel and activation.",
)
@click.option("--legend/--no-legend", default=True, help="Whether to write the title and the legend.")
@click.option("--dark", is_flag=True, help="Draw on a dark ground.")
@replace_option
def draw(
    name: str,
    knobs: tuple[tuple[str, Any], ...],
    out: str,
    detail: str | None,
    width: float,
    columns: int | None,
    show: tuple[str, ...],
    legend: bool,
    dark: bool,
    overwrite: bool,
) -> None:
    """Draw the architecture of the model NAME."""
    from cnnzoo import api

    spec = api.resolve(name, **dict(knobs))
    require_new(Path(out), overwrite)
    picture = api.draw(
        spec,
        out,
        detail=detail,
        width=width,
        columns=columns,
        show=show,
        legend=legend,
        dark=dark,
    )
    click.echo(f"{out}: {picture.width:.1f} x {picture.height:.1f} in, one box per {picture.detail}")


@click.command(epilog=examples("cnnzoo timeline", 'cnnzoo timeline "vgg*"', "cnnzoo timeline -o timeline.svg"))
@click.argument("pattern", type=MODEL, default="*")
@click.option("-o", "--out", type=FILE, help="Also draw a picture: timeline.svg, .png or .pdf.")
@replace_option
@json_option
def timeline(pattern: str, out: str | None, overwrite: bool, as_json: bool) -> None:
    """Show the models whose names match PATTERN by year: cost and published accuracy."""
    from cnnzoo.timeline import timeline as timeline_

    result = timeline_(pattern)
    if out:
        require_new(Path(out), overwrite)
        result.plot(out)
        print_written(out)
    click.echo(result.to_json() if as_json else str(result))


@click.command(epilog=examples("cnnzoo verify", "cnnzoo verify alexnet_2012", "cnnzoo verify --json"))
@click.argument("name", type=MODEL, required=False)
@json_option
def verify(name: str | None, as_json: bool) -> None:
    """Recompute the published figures of the model NAME, or of all."""
    from cnnzoo.verify import Audit, verify_each

    findings: list[Finding] = []
    deviations: list[tuple[str, Deviation]] = []
    separator = ""
    for audit in verify_each(name):
        findings += audit.findings
        deviations += audit.deviations
        for table in () if as_json else audit.figure_tables():
            click.echo(separator + table.text(color=True))
            separator = "\n"
    whole = Audit(findings, deviations)
    if as_json:
        click.echo(whole.to_json())
    elif not findings and not deviations:
        click.echo(str(whole))
    else:
        for table in whole.deviation_tables():
            click.echo(separator + table.text())
            separator = "\n"
    if whole.unexplained:
        sys.exit(1)


@click.command(
    epilog=examples("cnnzoo bench alexnet vgg16", 'cnnzoo bench lenet "lenet(width=2)" --train --batch-size 64')
)
@click.argument("names", type=MODEL, nargs=-1, required=True)
@click.option("--batch-size", default=1, show_default=True, help="Batch size.")
@click.option("--train", is_flag=True, help="Time a forward and a backward pass.")
@click.option("--device", type=DEVICE, default="cpu", show_default=True, help="'cpu', 'cuda', 'auto'.")
@click.option("--precision", type=click.Choice(PRECISIONS[1:3]), default="fp32", show_default=True, help="Precision.")
@click.option("--seconds", default=2.0, show_default=True, help="Approximate seconds per measurement.")
@json_option
def bench(
    names: tuple[str, ...],
    batch_size: int,
    train: bool,
    device: str,
    precision: str,
    seconds: float,
    as_json: bool,
) -> None:
    """Measure the speed of the models NAMES on this machine, beside that of a matrix product."""
    from cnnzoo.api import bench as bench_

    result = bench_(*names, batch_size=batch_size, train=train, device=device, precision=precision, seconds=seconds)
    click.echo(result.to_json() if as_json else str(result))
