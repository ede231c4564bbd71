"""The command line: the verbs of the library with the same words. Commands are thin: parse, call, print."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnzoo.errors import CnnzooError
from cnnzoo.version import __version__

if TYPE_CHECKING:
    from cnnzoo.train import Run, SeedSweep

SAMPLE = "fashion_mnist_sample"


class _Commands(click.Group):
    """Says our errors in one line; exit 0 success, 1 failure, 2 wrong usage, 130 after Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CnnzooError as problem:
            click.echo(f"error: {problem}", err=True)
            ctx.exit(1)
        except OSError as problem:
            if problem.errno == errno.EPIPE:  # whoever read has had enough
                raise
            click.echo(f"error: {problem}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


class _Setting(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic from click 8.2 on
    """NAME=VALUE; the value is JSON where it can be read as JSON, else a word."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        key, equals, text = str(value).partition("=")
        if not (key and equals):
            self.fail(f"{value!r} is not of the form NAME=VALUE", param, ctx)
        try:
            return key, json.loads(text)
        except ValueError:
            return key, None if text.lower() == "none" else text


_knobs = click.option(
    "--knob",
    "-k",
    "knobs",
    type=_Setting(),
    multiple=True,
    help="A knob of the network, such as in_channels=3; may be given several times.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for a machine to read.")
_html = click.option("--html", metavar="FILE", help="Write a page with tables and picture, too.")
_settings = click.option(
    "--set",
    "settings",
    type=_Setting(),
    multiple=True,
    help="A field of the recipe, such as lr=0.05; may be given several times. `cnnzoo recipes quick` explains them.",
)
_data = click.option("--data", default=SAMPLE, show_default=True, help="A data set's name, or folder:PATH.")
_data_size = click.option("--image-size", type=int, help="Side in px to which the images of a folder are scaled.")
_overwrite = click.option("--overwrite", is_flag=True, help="Replace a run that is there already.")


def _hub(command: Any) -> Any:
    """How to reach the Hub. A token is no option: what stands on a command line, others can read."""
    return click.option("--endpoint", metavar="URL", help="The Hub's address, if not HF_ENDPOINT.")(command)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cnnzoo")
def main() -> None:
    """The classic convolutional networks: list, count, compare, train."""


@main.command("list")
@click.argument("pattern", default="*")
@click.option("--pretrained", is_flag=True, help="Only those whose weights ship with cnnzoo.")
@_json
def list_(pattern: str, pretrained: bool, as_json: bool) -> None:
    """List the models whose names match PATTERN."""
    from cnnzoo.api import list_models

    names = list_models(pattern, pretrained=pretrained)
    click.echo(json.dumps(names) if as_json else "\n".join(names))


@main.command()
@click.argument("name")
@_knobs
@_html
@_json
def summary(name: str, knobs: tuple[tuple[str, Any], ...], html: str | None, as_json: bool) -> None:
    """Count the model NAME, layer by layer."""
    from cnnzoo.api import count, resolve, write_page

    report = count(resolve(name, **dict(knobs)))
    if html:
        write_page(report, html)
    click.echo(report.to_json() if as_json else str(report))


@main.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--batch-size", default=1, show_default=True, help="Images at a time.")
@click.option("--train", is_flag=True, help="Time a forward and a backward.")
@click.option("--device", default="cpu", show_default=True, help="'cpu', 'cuda', 'auto'.")
@click.option("--precision", default="fp32", show_default=True, help="'fp32' or 'bf16'.")
@click.option("--seconds", default=2.0, show_default=True, help="How long each is timed, about.")
@_json
def bench(
    names: tuple[str, ...],
    batch_size: int,
    train: bool,
    device: str,
    precision: str,
    seconds: float,
    as_json: bool,
) -> None:
    """Measure how fast the models NAMES run here, beside what this machine can do at most."""
    from cnnzoo.api import bench as bench_

    found = bench_(*names, batch_size=batch_size, train=train, device=device, precision=precision, seconds=seconds)
    click.echo(found.to_json() if as_json else str(found))


@main.command()
@click.argument("a")
@click.argument("b")
@_knobs
@_json
def diff(a: str, b: str, knobs: tuple[tuple[str, Any], ...], as_json: bool) -> None:
    """Show row by row how the model B differs from A, in parameters and MACs too."""
    from cnnzoo import api

    found = api.diff(a, b, **dict(knobs))
    click.echo(found.to_json() if as_json else str(found))


@main.command()
@click.argument("name")
@_knobs
@click.option("-o", "--out", required=True, help="The picture: net.svg, net.png, net.pdf.")
def draw(name: str, knobs: tuple[tuple[str, Any], ...], out: str) -> None:
    """Draw the architecture of the model NAME."""
    from cnnzoo import api

    api.draw(api.resolve(name, **dict(knobs)), out)


@main.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--baseline", default=-1, show_default=True, help="Index of the model that the ratios are against.")
@click.option("--train", is_flag=True, help="Train them too, and set what they learn side by side.")
@_data
@_data_size
@click.option("--recipe", default="quick", show_default=True, help="How they are trained: a name or a JSON file.")
@_settings
@click.option("--out", default="runs/compare", show_default=True, help="Folder for the runs and the picture.")
@_overwrite
@_html
@_json
def compare(
    names: tuple[str, ...],
    baseline: int,
    train: bool,
    data: str,
    image_size: int | None,
    recipe: str,
    settings: tuple[tuple[str, Any], ...],
    out: str,
    overwrite: bool,
    html: str | None,
    as_json: bool,
) -> None:
    """Set the models NAMES side by side: counts, ratios, what their common source claims."""
    from cnnzoo import api
    from cnnzoo.data import load_data

    if settings and not train:
        raise click.UsageError("--set is for training: give --train, too")
    comparison = api.compare(*names, baseline=baseline)
    if not as_json:
        for report in comparison.reports:
            click.echo(f"{report}\n")
        click.echo(comparison)
    if train:
        images = load_data(data, image_size=image_size)
        if not as_json:
            click.echo(f"\ntraining on {len(images.train):,} images of {images.name}, recipe {recipe!r}")
        comparison = api.compare(
            *names,
            baseline=baseline,
            train=images,
            recipe=recipe,
            settings=dict(settings),
            out=out,
            overwrite=overwrite,
        )
        if not as_json:
            click.echo(f"\n{comparison.results_table().text()}")
            click.echo(f"\nweights, curves and history: {out}/; the picture: {Path(out) / 'compare.png'}")
    if html:
        api.write_page(comparison, html)
    if as_json:
        click.echo(comparison.to_json())
    if any(result.get("interrupted") for result in comparison.results):
        click.echo(f"interrupted; what is done is in {out}", err=True)
        sys.exit(130)


@main.command()
@click.argument("pattern", default="*")
@click.option("-o", "--out", help="Draw the picture, too: net.svg, net.png, net.pdf.")
@_json
def timeline(pattern: str, out: str | None, as_json: bool) -> None:
    """Show the models whose names match PATTERN through the years: cost and published accuracy."""
    from cnnzoo.timeline import timeline as timeline_

    found = timeline_(pattern)
    if out:
        found.plot(out)
    click.echo(found.to_json() if as_json else str(found))


@main.command()
@click.argument("name", required=False)
@_json
def verify(name: str | None, as_json: bool) -> None:
    """Recompute the published figures of the model NAME, or of all."""
    from cnnzoo.verify import verify as verify_

    audit = verify_(name)
    click.echo(audit.to_json() if as_json else str(audit))
    if audit.unexplained:
        sys.exit(1)


@main.command()
@click.argument("name", required=False)
@_knobs
@click.option("--data", help=f"A data set's name, or folder:PATH; by default {SAMPLE}, on resuming that of the run.")
@_data_size
@click.option("--recipe", help="A name or a JSON file; by default 'quick'.")
@_settings
@click.option("--out", help="The run folder; by default runs/NAME.")
@click.option("--resume", metavar="RUN", help="Go on with the run in this folder.")
@click.option("--seeds", type=click.IntRange(1), help="Train with so many seeds, and say mean and 95 % interval.")
@click.option("--find-lr", is_flag=True, help="Only search for a learning rate.")
@click.option("--record", metavar="FILE", help="Write what was done, where, and what came of it: FILE.json, FILE.png.")
@_overwrite
@_json
def train(
    name: str | None,
    knobs: tuple[tuple[str, Any], ...],
    data: str | None,
    image_size: int | None,
    recipe: str | None,
    settings: tuple[tuple[str, Any], ...],
    out: str | None,
    resume: str | None,
    seeds: int | None,
    find_lr: bool,
    record: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train the model NAME, or go on with a run.

    Several processes train together under torchrun: torchrun --nproc-per-node 2 -m cnnzoo train NAME ...
    """
    from cnnzoo import api
    from cnnzoo.data import load_data
    from cnnzoo.train import lr_find
    from cnnzoo.train import recipe as recipe_
    from cnnzoo.train.run_dir import RunDir

    if (name is None) == (resume is None):
        raise click.UsageError("give either the NAME of a model, or --resume RUN")
    if resume is not None:
        if recipe or settings or knobs or out or seeds or find_lr:
            raise click.UsageError(
                "a run goes on as it began: --resume takes no --recipe, --set, --knob, --out, --seeds or --find-lr"
            )
        if data is None and image_size is not None:
            data = RunDir.opened(Path(resume)).told["data"]["name"]
        given = None if data is None else load_data(data, image_size=image_size)
        _finish(api.Trainer.resume(resume, data=given).fit(), as_json, record, image_size)
        return
    assert name is not None
    images = load_data(data or SAMPLE, image_size=image_size)
    fitting = {"num_classes": len(images.classes), "in_channels": images.shape[0]}
    spec = api.resolve(name, **{**fitting, **dict(knobs)})
    config = recipe_(recipe or "quick", model=spec.name).replace(**dict(settings))
    folder = out or f"runs/{spec.name}"
    if find_lr:
        click.echo(lr_find(api.create(spec, seed=config.seed), images, config))
    elif seeds:
        found = api.seed_sweep(spec, images, config, seeds=seeds, out=folder, overwrite=overwrite)
        _repeated(found, as_json, record, image_size)
    else:
        model = api.create(spec, seed=config.seed)
        run = api.Trainer(model, images, config, out=folder, overwrite=overwrite).fit()
        _finish(run, as_json, record, image_size)


def _is_spoken_for() -> bool:
    """Whether this is one of several processes of which another speaks."""
    return int(os.environ.get("RANK", "0")) > 0


def _resuming(run: Run, image_size: int | None) -> str:
    size = "" if image_size is None else f" --image-size {image_size}"
    return f"interrupted; go on with: cnnzoo train --resume {run.path}{size}"


def _finish(run: Run, as_json: bool, record: str | None, image_size: int | None) -> None:
    if _is_spoken_for():
        return
    click.echo(json.dumps({**run.metrics, "history": list(run.history)}, indent=2) if as_json else str(run))
    if run.interrupted:
        click.echo(_resuming(run, image_size), err=True)
        sys.exit(130)
    if record is not None and run.path is not None:
        from cnnzoo.train import record as record_

        record_([run.path], Path(record))


def _repeated(found: SeedSweep, as_json: bool, record: str | None, image_size: int | None) -> None:
    if _is_spoken_for():
        return
    click.echo(found.to_json() if as_json else str(found))
    if any(run.interrupted for run in found.runs):
        click.echo(_resuming(found.runs[-1], image_size), err=True)
        sys.exit(130)
    if record is not None:
        from cnnzoo.train import record as record_

        record_([run.path for run in found.runs if run.path is not None], Path(record))


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--out", metavar="FILE", help="The page; by default report.html in RUN, of several in this folder.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there already.")
def report(runs: tuple[str, ...], out: str | None, overwrite: bool) -> None:
    """Write one HTML page of the runs in the folders RUN: results, curves, confusions, filters, counts, settings."""
    from cnnzoo import api

    click.echo(api.report(*runs, out=out, overwrite=overwrite))


@main.command()
@click.argument("model")
@_data
@_data_size
@click.option("--views", default="whole", show_default=True, help="'whole', 'flip', 'center', 'five' or 'ten'.")
@click.option("--crop-mode", help="'resize', 'crop' or 'pad'; by default as in training.")
@_json
def evaluate(model: str, data: str, image_size: int | None, views: str, crop_mode: str | None, as_json: bool) -> None:
    """Test the network MODEL (a file, a run folder, hf://user/repo, a name whose weights ship) on a data set."""
    from cnnzoo import api
    from cnnzoo.data import load_data

    found = api.evaluate(model, load_data(data, image_size=image_size), views=views, crop_mode=crop_mode)
    click.echo(json.dumps(found.to_dict()) if as_json else str(found))


@main.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@_json
def predict(model: str, images: tuple[str, ...], as_json: bool) -> None:
    """Say what the network MODEL (as for evaluate) sees on each IMAGE: the five likeliest classes."""
    from cnnzoo import api

    found = list(zip(images, api.predict(model, list(images)), strict=True))
    if as_json:
        click.echo(json.dumps({image: dict(one.top()) for image, one in found}))
        return
    for image, one in found:
        click.echo(f"{image}\n{one}" if len(found) > 1 else str(one))


@main.command()
@click.argument("model")
@click.option("--onnx", metavar="FILE", help="Write ONNX, for any number of images: net.onnx.")
@click.option("--torch-export", metavar="FILE", help="Write what torch.export.load reads: net.pt2.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there already.")
def export(model: str, onnx: str | None, torch_export: str | None, overwrite: bool) -> None:
    """Write the network MODEL (as for evaluate) for other programs to run, and check what was written."""
    from cnnzoo import api

    if not onnx and not torch_export:
        raise click.UsageError("say where to: --onnx FILE.onnx, --torch-export FILE.pt2, or both")
    for option, path, suffix in (("--onnx", onnx, ".onnx"), ("--torch-export", torch_export, ".pt2")):
        if path and not path.endswith(suffix):
            raise click.UsageError(f"{option} names a file *{suffix}, not {path!r}")
    for path in filter(None, (onnx, torch_export)):
        click.echo(api.export(model, path, overwrite=overwrite))


@main.command()
@click.argument("model")
@click.argument("repo")
@click.option("--tag", help="A name for this state, such as v1.")
@click.option("--revision", help="The branch to commit to; by default the main branch.")
@click.option("--message", help="What the commit says.")
@click.option("--private/--public", default=None, help="Who may see a repository that is made here.")
@click.option("--replace-card", is_flag=True, help="Write README.md anew, if there is one.")
@click.option("--license", metavar="NAME", help="The license of the weights, for the card: apache-2.0.")
@_hub
def push(model: str, repo: str, replace_card: bool, **options: Any) -> None:
    """Publish the network in MODEL (a file or a run folder) as REPO (user/name) on the Hub."""
    from cnnzoo import weights

    commit = weights.push(model, repo, card="replace" if replace_card else "keep", **options)
    click.echo(f"commit {commit}\ncnnzoo.create({f'hf://{repo}@{commit}'!r})")


@main.command()
@click.argument("repo")
@click.option("--revision", help="A branch, tag or commit; by default the main branch.")
@click.option("--cache-dir", metavar="FOLDER", help="Where to keep files, if not in the Hub's cache.")
@_hub
def pull(repo: str, **options: Any) -> None:
    """Fetch the model REPO (user/name) from the Hub, and print the folder in which it lies."""
    from cnnzoo import weights

    click.echo(weights.pull(repo, **options))


@main.command()
@click.argument("name", required=False)
@_json
def recipes(name: str | None, as_json: bool) -> None:
    """List the training recipes, or show what the recipe NAME says and what each field means."""
    from cnnzoo.train import TrainConfig, list_recipes
    from cnnzoo.train import recipe as recipe_

    if name is None:
        click.echo(json.dumps(list_recipes()) if as_json else "\n".join(list_recipes()))
        return
    values = recipe_(name).to_dict()
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    for field, value in values.items():
        click.echo(f"{field + '=' + json.dumps(value):32} {TrainConfig.describe(field)}")
