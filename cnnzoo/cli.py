"""The command line: the verbs of the library under the same names. Each command parses, calls and prints."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnzoo.cli_options import (
    PRETRAINED_HELP,
    SAMPLE,
    Commands,
    add_data_options,
    html_option,
    hub_option,
    input_size_option,
    json_option,
    knobs_option,
    overwrite_option,
    settings_option,
    training_memory_options,
)
from cnnzoo.errors import DataError, unknown
from cnnzoo.files import CURVES_FILE, HISTORY_FILE, METRICS_FILE, TRAIN_FILE, WEIGHTS_FILE
from cnnzoo.knobs import folder_name, format_name
from cnnzoo.version import __version__

if TYPE_CHECKING:
    from cnnzoo.measure import CountReport
    from cnnzoo.published import Deviation
    from cnnzoo.train import Run, SeedSweep
    from cnnzoo.verify import Finding

_TRAIN_EXAMPLES = """\b
Examples:
  cnnzoo train lenet --data folder:photos --image-size 28
  cnnzoo train runs/lenet --data folder:photos --freeze "conv*"
  cnnzoo train resnet18 --pretrained torchvision --data folder:photos \\
    --image-size 224 --set 'lr_multipliers={"features.*": 0.1}'
"""  # \b keeps the lines
_RUN_FILES = (WEIGHTS_FILE, METRICS_FILE, HISTORY_FILE, CURVES_FILE, TRAIN_FILE)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cnnzoo")
def main() -> None:
    """The classic convolutional networks: count, compare, train and share them."""


@main.command("list")
@click.argument("pattern", default="*")
@click.option("--pretrained", is_flag=True, help="List only models whose weights ship with cnnzoo.")
@json_option
def list_(pattern: str, pretrained: bool, as_json: bool) -> None:
    """List the models whose names match PATTERN."""
    from cnnzoo.api import list_models

    names = list_models(pattern, pretrained=pretrained)
    if not names and pattern != "*":
        raise unknown("model", pattern, list_models(pretrained=pretrained))
    click.echo(json.dumps(names) if as_json else "\n".join(names))


@main.command()
@click.argument("name")
@knobs_option
@input_size_option
@click.option("--depth", type=click.IntRange(1), help="Modules (of zoo networks: blocks) in this depth share a line.")
@click.option("--columns", metavar="A,B,...", help="Columns, such as layer,kernel,output,MACs; or 'all'.")
@click.option("--sort", metavar="COLUMN", help="Largest values of a column first.")
@click.option("--all", "show_all", is_flag=True, help="A line per layer: repeated blocks are not folded.")
@training_memory_options
@html_option
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
        write_page(report, html, memory)
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
        lines.append(f"{available}: {'fits' if fits else 'does not fit'}; the largest batch size is {largest:,}")
    click.echo(json.dumps(values, indent=2) if as_json else "\n".join(lines))


def _count(name: str, knobs: dict[str, Any], input_size: tuple[int, ...] | None, train: bool) -> CountReport:
    """Counts a network that a command line names."""
    from cnnzoo.api import count, resolve
    from cnnzoo.api.factories import count_factory, is_factory

    if is_factory(name):
        return count_factory(name, input_size, knobs, train)
    return count(resolve(name, **knobs), input_size)


@main.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--batch-size", default=1, show_default=True, help="Batch size.")
@click.option("--train", is_flag=True, help="Time a forward and a backward pass.")
@click.option("--device", default="cpu", show_default=True, help="'cpu', 'cuda', 'auto'.")
@click.option("--precision", default="fp32", show_default=True, help="'fp32' or 'bf16'.")
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


@main.command()
@click.argument("a")
@click.argument("b")
@knobs_option
@json_option
def diff(a: str, b: str, knobs: tuple[tuple[str, Any], ...], as_json: bool) -> None:
    """Show block by block how the model B differs from A, and the effect on parameters and MACs."""
    from cnnzoo import api

    difference = api.diff(a, b, **dict(knobs))
    click.echo(difference.to_json() if as_json else str(difference))


@main.command()
@click.argument("name")
@knobs_option
@click.option("-o", "--out", required=True, help="The file: alexnet.svg, .png or .pdf.")
def draw(name: str, knobs: tuple[tuple[str, Any], ...], out: str) -> None:
    """Draw the architecture of the model NAME."""
    from cnnzoo import api

    api.draw(api.resolve(name, **dict(knobs)), out)


@main.command()
@click.argument("names", nargs=-1, required=True)
@knobs_option
@input_size_option
@click.option("--baseline", default="-1", show_default=True, help="The model that ratios refer to: index or name.")
@click.option("--train", is_flag=True, help="Also train them, and compare the results.")
@add_data_options()
@click.option("--recipe", default="quick", show_default=True, help="Name of a recipe, or a JSON file.")
@settings_option
@click.option("--out", default="runs/compare", show_default=True, help="Folder for the runs and the picture.")
@overwrite_option
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
        api.write_page(comparison, html)
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


@main.command()
@click.argument("pattern", default="*")
@click.option("-o", "--out", help="Also draw a picture: timeline.svg, .png or .pdf.")
@json_option
def timeline(pattern: str, out: str | None, as_json: bool) -> None:
    """Show the models whose names match PATTERN by year: cost and published accuracy."""
    from cnnzoo.timeline import timeline as timeline_

    result = timeline_(pattern)
    if out:
        result.plot(out)
    click.echo(result.to_json() if as_json else str(result))


@main.command()
@click.argument("name", required=False)
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
            click.echo(separator + table.text())
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


@main.command(epilog=_TRAIN_EXAMPLES)
@click.argument("name", required=False)
@knobs_option
@add_data_options(None, f"; default: {SAMPLE}, or that of the resumed run")
@click.option("--pretrained", is_flag=False, flag_value="shipped", metavar="[TAG]", help=PRETRAINED_HELP)
@click.option("--freeze", multiple=True, metavar="PATTERN", help="Freeze blocks or parameters: 'conv*' (repeatable).")
@click.option("--recipe", help="Name of a recipe, or a JSON file; default: quick, for the kind of the network.")
@settings_option
@click.option("--out", help="The run folder; default: runs/NAME; runs/NAME-finetuned for trained weights.")
@click.option("--resume", metavar="RUN", help="Continue the run in this folder.")
@click.option("--seeds", type=click.IntRange(1), help="Number of seeds; prints mean and 95 % confidence interval.")
@click.option("--find-lr", is_flag=True, help="Only search for a learning rate.")
@click.option("--record", metavar="FILE", help="Write a record of the runs: FILE.json, FILE.png.")
@overwrite_option
@json_option
def train(
    name: str | None,
    knobs: tuple[tuple[str, Any], ...],
    data: str | None,
    data_options: dict[str, Any],
    pretrained: str | None,
    freeze: tuple[str, ...],
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
    """Train the model NAME, fine-tune a saved network, or resume a run.

    NAME is a registered name, also with knobs, 'lenet(activation=relu)', and its weights are new. Or it is a saved
    network (a run folder, a file, hf://user/repo): training continues from its weights, with a new last layer if the
    data has other classes.

    The same command again continues a run that was interrupted, and does nothing for one that is finished.

    Several processes: torchrun --nproc-per-node 2 -m cnnzoo train NAME ...
    """
    if (name is None) == (resume is None):
        raise click.UsageError("give either the NAME of a model, or --resume RUN")
    if resume is not None:
        if recipe or settings or knobs or out or seeds or find_lr or pretrained or freeze:
            raise click.UsageError(
                "--resume continues a run with its own settings: leave out --recipe, --set, --knob, --out, --seeds, "
                "--find-lr, --pretrained and --freeze"
            )
        if data is None and data_options:
            raise click.UsageError(
                "--resume loads the data of the run as it was loaded; give --data too to load others"
            )
        from cnnzoo import api
        from cnnzoo.data import load_data

        images = None if data is None else load_data(data, **data_options)
        _print_run(api.Trainer.resume(resume, data=images).fit(), as_json, record)
        return
    assert name is not None
    changes = dict(settings)
    if freeze:
        if "freeze" in changes:
            raise click.UsageError("--freeze and --set freeze= set the same: give one of them")
        changes["freeze"] = list(freeze)
    from cnnzoo import api

    source, own_knobs = api.split_knobs(name, dict(knobs))
    folder = out or _default_folder(source, own_knobs, pretrained)
    origin = Path(str(source)).resolve()
    if api.is_saved(source) and Path(folder).resolve() in (origin, origin.parent):
        raise click.UsageError(f"--out {folder} is the run that the weights are read from: name another folder")
    api.resolve(source, **own_knobs)  # an unknown name or knob is reported before images are read
    from cnnzoo.data import load_data
    from cnnzoo.train import RecipeRecord, choose_recipe, describe_setup, lr_find

    images = load_data(data or SAMPLE, **data_options)
    tag = True if pretrained == "shipped" else pretrained
    all_knobs = {"num_classes": len(images.classes), "in_channels": images.shape[0], **own_knobs}
    model = api.create(source, seed=0, pretrained=tag, **all_knobs)
    choice = choose_recipe(recipe or "quick", model, changes)
    config = choice.config
    if config.seed:
        model = api.create(source, seed=config.seed, pretrained=tag, **all_knobs)
    if find_lr:
        click.echo(lr_find(model, images, config))
        return
    trainer = api.Trainer(
        model,
        images,
        config,
        out=folder,
        overwrite=overwrite or bool(seeds),
        resume="auto",
        callbacks=[RecipeRecord(choice)],
    )
    if not as_json and not _is_silent_rank():
        click.echo(describe_setup(trainer, choice, runs=seeds or 1) + "\n", err=True)
        if trainer.is_finished:
            click.echo(f"{folder} is finished already; --overwrite trains anew, --out names another folder", err=True)
        elif trainer.step:
            click.echo(f"continues after step {trainer.step:,} of {trainer.total_steps:,}", err=True)
    if not seeds:
        _print_run(trainer.fit(), as_json, record)
        return
    del trainer
    sweep = api.seed_sweep(
        source,
        images,
        config,
        seeds=seeds,
        out=folder,
        overwrite=overwrite,
        resume="auto",
        callbacks=[RecipeRecord(choice)],
        pretrained=tag,
        **all_knobs,
    )
    _print_sweep(sweep, folder, as_json, record)


def _default_folder(source: Any, knobs: dict[str, Any], pretrained: str | None) -> str:
    """Returns the folder of a run that --out does not name."""
    from cnnzoo import api

    if not api.is_saved(source):
        return f"runs/{folder_name(format_name(source, knobs))}{'-finetuned' if pretrained else ''}"
    return f"runs/{folder_name(Path(source).name.removesuffix('.safetensors'))}-finetuned"


def _is_silent_rank() -> bool:
    """Returns whether this is a process of a distributed run that prints nothing."""
    return int(os.environ.get("RANK", "0")) > 0


def _next_commands(run: Path) -> str:
    """Returns the files of a finished run, and the commands to type next."""
    from cnnzoo.train import RunDir

    data = RunDir.open(run).info["data"]
    folder, name = shlex.quote(str(run)), shlex.quote(data["name"])
    columns = {key: value for key, value in (data["options"] or {}).items() if key.endswith("_column") and value}
    options = "".join(f" --{key.replace('_', '-')} {shlex.quote(value)}" for key, value in columns.items())
    options += " --skip-bad" if data["skipped"] else ""
    lines = [
        f"{run}/: {', '.join(file for file in _RUN_FILES if (run / file).exists())}",
        f"  cnnzoo report {folder}",
        f"  cnnzoo evaluate {folder}" + (f" --data {name}{options}" if data["name"] != SAMPLE else ""),
        f"  cnnzoo predict {folder} IMAGE",
        f"  cnnzoo train {folder} --data folder:PATH",
    ]
    comments = ("a page about the run", "accuracy per class", "classify a file", "fine-tune on other images")
    width = max(map(len, lines[1:]))
    return "\n".join([lines[0], *(f"{line:{width}}  # {what}" for line, what in zip(lines[1:], comments, strict=True))])


def _resume_hint(run: Run) -> str:
    return f"interrupted; continue with: cnnzoo train --resume {shlex.quote(str(run.path))}"


def _print_run(run: Run, as_json: bool, record: str | None) -> None:
    if _is_silent_rank():
        return
    click.echo(json.dumps({**run.metrics, "history": list(run.history)}, indent=2) if as_json else str(run))
    if run.interrupted:
        click.echo(_resume_hint(run), err=True)
        sys.exit(130)
    if not as_json and run.path is not None:
        click.echo(f"\n{_next_commands(run.path)}")
    if record is not None and run.path is not None:
        from cnnzoo.train import record as record_

        record_([run.path], Path(record))


def _print_sweep(sweep: SeedSweep, folder: str, as_json: bool, record: str | None) -> None:
    if _is_silent_rank():
        return
    click.echo(sweep.to_json() if as_json else str(sweep))
    if any(run.interrupted for run in sweep.runs):
        click.echo("interrupted; the same command again completes the seeds", err=True)
        sys.exit(130)
    if not as_json:
        click.echo(f"{folder}/: a run per seed, sweep.json\n  cnnzoo report {shlex.quote(folder)}  # a page about them")
    if record is not None:
        from cnnzoo.train import record as record_

        record_([run.path for run in sweep.runs if run.path is not None], Path(record))


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--out", metavar="FILE", help="The page; default: RUN/report.html, or report.html here for several.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def report(runs: tuple[str, ...], out: str | None, overwrite: bool) -> None:
    """Write one HTML page about the runs in the folders RUN: results, curves, confusion, filters, counts, settings."""
    from cnnzoo import api

    click.echo(api.report(*runs, out=out, overwrite=overwrite))


@main.command()
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


@main.command()
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


@main.command()
@click.argument("model")
@click.option("--onnx", metavar="FILE", help="Write ONNX for any batch size: lenet.onnx.")
@click.option("--torch-export", metavar="FILE", help="Write a torch.export program: lenet.pt2.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def export(model: str, onnx: str | None, torch_export: str | None, overwrite: bool) -> None:
    """Export the network MODEL (as for evaluate), and check the scores of the exported file."""
    from cnnzoo import api

    if not onnx and not torch_export:
        raise click.UsageError("give --onnx FILE.onnx, --torch-export FILE.pt2, or both")
    for option, path, suffix in (("--onnx", onnx, ".onnx"), ("--torch-export", torch_export, ".pt2")):
        if path and not path.endswith(suffix):
            raise click.UsageError(f"{option} expects a file name that ends in {suffix}, got {path!r}")
    for path in filter(None, (onnx, torch_export)):
        click.echo(api.export(model, path, overwrite=overwrite))


@main.command()
@click.argument("model")
@click.argument("repo")
@click.option("--tag", help="Tag of the commit, such as v1.")
@click.option("--revision", help="The branch to commit to; default: main.")
@click.option("--message", help="Commit message.")
@click.option("--private/--public", default=None, help="Visibility of a new repository.")
@click.option("--replace-card", is_flag=True, help="Replace an existing README.md.")
@click.option("--license", metavar="NAME", help="License of the weights, for the model card: apache-2.0.")
@hub_option
def push(model: str, repo: str, replace_card: bool, **options: Any) -> None:
    """Publish the network in MODEL (a file or a run folder) as REPO (user/name) on the Hub."""
    from cnnzoo import weights

    commit = weights.push(model, repo, card="replace" if replace_card else "keep", **options)
    click.echo(f"commit {commit}\ncnnzoo.create({f'hf://{repo}@{commit}'!r})")


@main.command()
@click.argument("repo")
@click.option("--revision", help="A branch, tag or commit; default: main.")
@click.option("--cache-dir", metavar="FOLDER", help="Folder for downloaded files; default: the Hub's cache.")
@hub_option
def pull(repo: str, **options: Any) -> None:
    """Download the model REPO (user/name) from the Hub, and print its folder."""
    from cnnzoo import weights

    click.echo(weights.pull(repo, **options))


@main.command()
@click.argument("name", required=False)
@json_option
def recipes(name: str | None, as_json: bool) -> None:
    """List the training recipes, or show the fields of the recipe NAME (or of a JSON file) with their meaning."""
    from cnnzoo.stored_recipes import stored_recipes

    stored = stored_recipes()
    if name is None:
        click.echo(json.dumps(list(stored.values)) if as_json else "\n".join(stored.values))
        return
    values = stored.values.get(name)
    if values is None:
        from cnnzoo.train import recipe as recipe_

        values = recipe_(name).to_dict()
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    for field, value in values.items():
        click.echo(f"{field + '=' + json.dumps(value):32} {stored.help[field]}")
