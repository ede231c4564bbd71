"""The commands that train networks, and look at runs."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnzoo.cli.completion import DATA, FILE, FOLDER, MODEL, RECIPE, examples
from cnnzoo.cli.options import (
    PRETRAINED_HELP,
    SAMPLE,
    add_data_options,
    json_option,
    knobs_option,
    print_written,
    replace_option,
    settings_option,
)
from cnnzoo.files import (
    CURVES_FILE,
    HISTORY_FILE,
    METRICS_FILE,
    TRAIN_FILE,
    WEIGHTS_FILE,
    exists,
    require_new,
)
from cnnzoo.knobs import folder_name, format_name

if TYPE_CHECKING:
    from cnnzoo.train import Run, SeedSweep

_RUN_FILES = (WEIGHTS_FILE, METRICS_FILE, HISTORY_FILE, CURVES_FILE, TRAIN_FILE)


@click.command(
    epilog=examples(
        "cnnzoo train lenet --data folder:photos --image-size 28",
        'cnnzoo train runs/lenet --data folder:photos --freeze "conv*"',
        "cnnzoo train resnet18 --pretrained torchvision --data folder:photos \\",
        "  --image-size 224 --set 'lr_multipliers={\"features.*\": 0.1}'",
    )
)
@click.argument("name", type=MODEL, required=False)
@knobs_option
@add_data_options(None, f"; default: {SAMPLE}, or that of the resumed run")
@click.option("--pretrained", is_flag=False, flag_value="shipped", metavar="[TAG]", help=PRETRAINED_HELP)
@click.option("--freeze", multiple=True, metavar="PATTERN", help="Freeze blocks or parameters: 'conv*' (repeatable).")
@click.option(
    "--recipe", type=RECIPE, help="Name of a recipe, or a JSON file; default: quick, for the kind of the network."
)
@settings_option
@click.option("--out", type=FOLDER, help="The run folder; default: runs/NAME; runs/NAME-finetuned for trained weights.")
@click.option("--resume", type=FOLDER, metavar="RUN", help="Continue the run in this folder.")
@click.option("--seeds", type=click.IntRange(1), help="Number of seeds; prints mean and 95 % confidence interval.")
@click.option("--find-lr", is_flag=True, help="Only search for a learning rate.")
@click.option("--record", type=FILE, metavar="FILE", help="Write a record of the runs: FILE.json, FILE.png.")
@click.option("--overwrite", is_flag=True, help="Replace an existing run, and an existing record.")
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
        trainer = api.Trainer.resume(resume, data=images)
        _require_new_record(record, overwrite)
        _print_run(trainer.fit(), as_json, record, overwrite)
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
    origin = os.path.realpath(str(source))
    if api.is_saved(source) and os.path.realpath(folder) in (origin, os.path.dirname(origin)):
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
    if not trainer.is_finished:
        _require_new_record(record, overwrite)
    if not as_json and not _is_silent_rank():
        click.echo(describe_setup(trainer, choice, runs=seeds or 1) + "\n", err=True)
        if trainer.is_finished:
            click.echo(f"{folder} is finished already; --overwrite trains anew, --out names another folder", err=True)
        elif trainer.step:
            click.echo(f"continues after step {trainer.step:,} of {trainer.total_steps:,}", err=True)
    if not seeds:
        _print_run(trainer.fit(), as_json, record, overwrite)
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
    _print_sweep(sweep, folder, as_json, record, overwrite)


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


def _require_new_record(record: str | None, overwrite: bool) -> None:
    """Raises FileError before training if a file of the record exists, and may not be replaced."""
    from cnnzoo.train import record_files

    for file in () if record is None else record_files(Path(record)):
        require_new(file, overwrite)


def _write_record(runs: Sequence[Run], record: str, overwrite: bool) -> None:
    """Writes the record of runs; one that is there is kept if they were finished already."""
    from cnnzoo.train import record as record_
    from cnnzoo.train import record_files

    existing = [str(file) for file in record_files(Path(record)) if exists(file)]
    if existing and not overwrite:
        click.echo(f"kept {' and '.join(existing)}, which existed already; remove them to write them again", err=True)
        return
    for file in record_([run.path for run in runs if run.path is not None], Path(record), overwrite=overwrite):
        print_written(file)


def _print_run(run: Run, as_json: bool, record: str | None, overwrite: bool) -> None:
    if _is_silent_rank():
        return
    click.echo(json.dumps({**run.metrics, "history": list(run.history)}, indent=2) if as_json else str(run))
    if run.interrupted:
        click.echo(_resume_hint(run), err=True)
        sys.exit(130)
    if as_json:
        print_written(f"{run.path}/")
    elif run.path is not None:
        click.echo(f"\n{_next_commands(run.path)}")
    if record is not None:
        _write_record([run], record, overwrite)


def _print_sweep(sweep: SeedSweep, folder: str, as_json: bool, record: str | None, overwrite: bool) -> None:
    if _is_silent_rank():
        return
    click.echo(sweep.to_json() if as_json else str(sweep))
    if any(run.interrupted for run in sweep.runs):
        click.echo("interrupted; the same command again completes the seeds", err=True)
        sys.exit(130)
    if as_json:
        print_written(f"{folder}/")
    else:
        click.echo(f"{folder}/: a run per seed, sweep.json\n  cnnzoo report {shlex.quote(folder)}  # a page about them")
    if record is not None:
        _write_record(sweep.runs, record, overwrite)


@click.command(
    epilog=examples("cnnzoo recipes", "cnnzoo recipes d2l/alexnet", "cnnzoo recipes quick --json > mine.json")
)
@click.argument("name", type=RECIPE, required=False)
@json_option
def recipes(name: str | None, as_json: bool) -> None:
    """List the training recipes and what each is for, or show the settings of the recipe NAME (or of a JSON file).

    Piped into another command, the list has only their names, a line each.
    """
    from cnnzoo.measure.tables import Table
    from cnnzoo.stored_recipes import stored_recipes

    stored = stored_recipes()
    if name is None:
        if as_json:
            recipes = {name: {"purpose": stored.purposes[name], **values} for name, values in stored.values.items()}
            click.echo(json.dumps(recipes, indent=2))
        elif sys.stdout.isatty():
            click.echo(Table("", ("recipe", "what it is for"), list(stored.purposes.items())).text())
        else:
            click.echo("\n".join(stored.values))
        return
    values = stored.values.get(name)
    if values is None:
        from cnnzoo.train import recipe as recipe_

        values = recipe_(name).to_dict()
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    rows = [(field, json.dumps(value), stored.help[field]) for field, value in values.items()]
    click.echo(Table(f"recipe {name}", ("setting", "value", "meaning"), rows, foldable=("value",)).text())


@click.command(epilog=examples("cnnzoo report runs/lenet", "cnnzoo report runs/compare --out page.html"))
@click.argument("runs", type=FOLDER, nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--out", type=FILE, metavar="FILE", help="The page; default: RUN/report.html, or report.html here for several."
)
@click.option(
    "--data", type=DATA, metavar="NAME", help="Also show the test images of this data set that are misclassified."
)
@replace_option
def report(runs: tuple[str, ...], out: str | None, data: str | None, overwrite: bool) -> None:
    """Write one HTML page about the runs in the folders RUN: results, curves, confusion, filters, counts, settings."""
    from cnnzoo import api

    click.echo(api.report(*runs, out=out, data=data, overwrite=overwrite))
