"""The page of one or several runs: one HTML file that needs nothing else, no script either."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path

import torch
from torch import nn

from cnnzoo.errors import FileError, InputError
from cnnzoo.html_report.run_reader import Build, RunReader, find_runs, is_number, short_names
from cnnzoo.measure import Comparison, svg_chart
from cnnzoo.measure.layer_plot import COLORS
from cnnzoo.measure.tables import Printable, Table, page, shape_text, wide
from cnnzoo.serialization import atomic_write, exists
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.run import interval_95

PAGE = "report.html"
MAX_CLASSES = 40  # of a table of confusions; more are not read
MAX_PAIRS = 6
MAX_LAYERS = 40  # shown unfolded

Diff = Callable[[nn.Module, nn.Module], Printable | None]


def report(
    folders: Sequence[Path], out: Path | None = None, *, build: Build, diff: Diff, overwrite: bool = False
) -> Path:
    """Writes the page of some runs.

    Args:
        folders: Run folders, or folders that hold some.
        out: The file; by default ``report.html`` in the folder, where one is given, else in the current one.
        build: Makes the module that a description (config.json) is of.
        diff: Tells what differs between two modules, where it can.
        overwrite: Whether a file that is there may be replaced.

    Returns:
        The file.

    Raises:
        InputError: If no folder is given.
        FileError: If one holds no run, or the file is there already or cannot be written.
    """
    if not folders:
        raise InputError("report takes at least one run folder, such as runs/lenet")
    target = out or (folders[0] / PAGE if len(folders) == 1 else Path(PAGE))
    paths = {path.resolve(): path for folder in folders for path in find_runs(folder)}
    if target.is_dir():
        raise FileError(f"{target} is a folder; name a file, such as {target / PAGE}")
    if exists(target) and not overwrite:
        raise FileError(f"{target} exists already; name another file (--out), or say overwrite=True (--overwrite)")
    text = page_of([RunReader(path, build) for path in paths.values()], diff)
    with atomic_write(target) as file:
        file.write(text.encode())
    return target


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone, or a single run.

    Attributes:
        label: What it is called on the page.
        color: Its color on white.
        runs: The runs, with the label of each.
    """

    label: str
    color: str
    runs: Mapping[str, RunReader]

    @property
    def first(self) -> RunReader:
        """The run that speaks for what all have in common."""
        return next(iter(self.runs.values()))

    def values(self, key: str) -> list[float]:
        """A figure of every run that is finished."""
        return [run.metrics[key] for run in self.runs.values() if run.finished and is_number(run.metrics.get(key))]

    @cached_property
    def confusion(self) -> torch.Tensor | None:
        """The sum over the runs."""
        tables = [run.confusion for run in self.runs.values() if run.confusion is not None]
        return sum(tables[1:], tables[0]) if tables and len({table.shape for table in tables}) == 1 else None


def grouped(runs: Sequence[RunReader]) -> list[Group]:
    """The runs in groups, those of a group together, in the order in which the first of each comes."""
    labels = short_names([run.path for run in runs])
    members: dict[str, dict[str, RunReader]] = {}
    for label, run in zip(labels, runs, strict=True):
        data, alike = run.part("data"), {**run.part("config"), "seed": None}
        images = data.get("sha256") or data.get("name")  # not every stream of batches has a checksum
        net = run.spec or sorted(run.weights.items())
        key = json.dumps([run.name, net, images, run.told.get("from"), alike])
        members.setdefault(key, {})[label] = run
    found: list[dict[str, RunReader]] = []
    for of in members.values():
        seeds = {json.dumps(run.part("config").get("seed")) for run in of.values()}
        found += [of] if len(seeds) == len(of) else [{label: run} for label, run in of.items()]
    parents = [{run.path.resolve().parent for run in of.values()} for of in found]
    # a folder of seeds speaks for them, if nothing else lies in it
    places = [
        next(iter(own)) if len(of) > 1 and len(own) == 1 and sum(own <= other for other in parents) == 1
        else next(iter(of.values())).path
        for of, own in zip(found, parents, strict=True)
    ]  # fmt: skip
    names = short_names(places)
    return [
        Group(name, COLORS[i % len(COLORS)], _alike(of)) for i, (name, of) in enumerate(zip(names, found, strict=True))
    ]


def _alike(runs: Mapping[str, RunReader]) -> dict[str, RunReader]:
    """The runs of a group, the labels of all with as many parts as one of them needs."""
    most = 1 + max(label.count("/") for label in runs)
    return {"/".join(run.path.resolve().parts[-most:]): run for run in runs.values()}


def page_of(runs: Sequence[RunReader], diff: Diff) -> str:
    """The page as text."""
    groups = grouped(runs)
    sections = [
        ("results", "Results", _results(groups)),
        ("curves", "Curves", _curves(groups)),
        ("confusions", "What is taken for what", _confusions(groups)),
        ("filters", "First-layer filters", _filters(groups)),
        ("counts", "Counts", _counts(groups, diff)),
        ("settings", "Settings", _settings(groups)),
        ("origin", "Where it comes from", _origin(groups)),
    ]
    there = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, _ in there)
    notes = dict.fromkeys(note for run in runs for note in run.notes)  # by now, since sections read more on their way
    parts = [f'<nav aria-label="sections">{links}</nav>', *(f'<p class="note">{_esc(note)}</p>' for note in notes)]
    parts += [f'<section id="{name}"><h2>{title}</h2>{body}</section>' for name, title, body in there]
    return page(_title(groups), parts, style=svg_chart.STYLE + _STYLE)


def _title(groups: Sequence[Group]) -> str:
    nets = list(dict.fromkeys(group.first.name for group in groups))
    data = list(dict.fromkeys(group.first.data_name for group in groups))
    n = sum(len(group.runs) for group in groups)
    about = f"{_listed(nets)} on {_listed(data)}" if len(nets) <= 3 and len(data) <= 2 else f"{len(nets)} networks"
    return f"{about}, {n} runs" if n > len(nets) or n > 3 else about


# --- sections ---


def _results(groups: Sequence[Group]) -> str:
    cards = "".join(f'<li class="of" style="--of:{group.color}">{_card(group)}</li>' for group in groups)
    return f'<ul class="cards">{cards}</ul>{_wide(_results_table(groups))}'


def _card(group: Group) -> str:
    run = next((run for run in group.runs.values() if run.finished), group.first)
    accuracies = group.values("test_acc")
    said = "not tested yet"
    if len(accuracies) > 1:
        low, high = interval_95(accuracies)
        said = f"<b>{statistics.fmean(accuracies):.4f}</b> &plusmn; {(high - low) / 2:.4f} test accuracy"
    elif is_number(accuracy := run.metrics.get("test_acc")):
        said = f"<b>{accuracy:.4f}</b> test accuracy"
    elif is_number(accuracy := run.metrics.get("val_acc")):
        said = f"<b>{accuracy:.4f}</b> on held-out images"
    about = [run.name]
    if run.report is not None:
        about += [f"{run.report.params.total:,} parameters", f"{run.report.macs:,} MACs"]
    about.append(
        f"{len(group.runs)} seeds" if len(group.runs) > 1 else f"{run.epochs} epoch{'s' * (run.epochs != '1')}"
    )
    about += [] if all(one.finished for one in group.runs.values()) else ["not finished"]
    return f"<strong>{_esc(group.label)}</strong><span>{said}</span><small>{_esc(', '.join(about))}</small>"


_FIGURES: tuple[tuple[str, str, str], ...] = (
    ("test accuracy", "test_acc", ".4f"),
    ("held-out accuracy", "val_acc", ".4f"),
    ("training accuracy", "train_acc", ".4f"),
    ("training loss", "loss", ".4f"),
    ("examples/sec, training step", "examples_per_sec", ",.1f"),
    ("examples/sec, wall clock", "wall_examples_per_sec", ",.1f"),
    ("share of that spent waiting for data", "data_share", ".2%"),
    ("device", "device", ""),
    ("precision", "precision", ""),
    ("processes", "processes", ""),
)


def _results_table(groups: Sequence[Group]) -> Table:
    """A figure a row, a column per run, and the mean of each group of seeds with half of its 95 % interval."""
    columns = [(label, run) for group in groups for label, run in group.runs.items()]
    crops = sorted({key for _, run in columns for key in run.metrics if key.startswith("test_acc_")})
    figures = list(_FIGURES)
    figures[1:1] = [(f"test accuracy, {key[9:]} crops", key, ".4f") for key in crops]
    rows = [
        [what, *_means(groups, key, form), *(_figure(run.metrics.get(key), form) for _, run in columns)]
        for what, key, form in figures
    ]
    others: list[tuple[str, Callable[[RunReader], str]]] = []
    for name in sorted({name for _, run in columns for name in run.evaluations}):
        for what, key, form in (("top-5", "top5", ".4f"), ("loss", "loss", ".4f"), ("images", "n", ",")):
            of = partial(_tested, name=name, key=key, form=form)
            others.append((f"{name.replace('_', ' ')} {what}", of))
    others += [("epochs", lambda run: run.epochs), ("state", lambda run: run.state)]
    others += [("parameters", _parameters), ("multiply-adds (MACs)", _macs)]
    rows += [[what, *[""] * len(_several(groups)), *(of(run) for _, run in columns)] for what, of in others]
    headers = ["", *(f"{group.label}, mean" for group in _several(groups)), *(label for label, _ in columns)]
    notes = ["Means are those of finished runs, plus or minus half of the 95 % interval."] if _several(groups) else []
    return Table("At the end", headers, [row for row in rows if any(row[1:])], notes=notes)


def _several(groups: Sequence[Group]) -> list[Group]:
    """The groups of which a mean can be told."""
    return [group for group in groups if len(group.values("test_acc")) > 1]


def _means(groups: Sequence[Group], key: str, form: str) -> list[str]:
    found = []
    for group in _several(groups):
        values = group.values(key) if "_acc" in key or key == "loss" else []
        low, high = interval_95(values) if len(values) > 1 else (0.0, 0.0)
        found.append(f"{statistics.fmean(values):{form}} +-{(high - low) / 2:{form}}" if len(values) > 1 else "")
    return found


def _tested(run: RunReader, *, name: str, key: str, form: str) -> str:
    return _figure(run.evaluations.get(name, {}).get(key), form)


def _parameters(run: RunReader) -> str:
    if run.report is not None:
        return f"{run.report.params.total:,}"
    return f"{sum(map(math.prod, run.weights.values())):,} with buffers" if run.weights else ""


def _macs(run: RunReader) -> str:
    return "" if run.report is None else f"{run.report.macs:,}"


_LOOKS = {"solid": "", "dashed": "6 4", "dotted": "1 3"}
_CHARTS = (  # what each shows of the history, and how
    (
        "Accuracy",
        (("test_acc", "test", "solid"), ("train_acc", "training", "dashed"), ("val_acc", "held out", "dotted")),
    ),
    ("Training loss", (("loss", "training", "solid"),)),
    (
        "Examples per second",
        (("examples_per_sec", "steps alone", "solid"), ("wall_examples_per_sec", "wall clock", "dashed")),
    ),
    ("Learning rate at the end of each epoch", (("lr", "learning rate", "solid"),)),
)


def _curves(groups: Sequence[Group]) -> str:
    figures = []
    for title, kinds in _CHARTS:
        lines, said = [], []
        for key, what, look in kinds:
            found = [line for group in groups if (line := _line(group, key, what, _LOOKS[look]))]
            lines += found
            said += [f"{what} {look}"] if found and len(kinds) > 1 else []
        if svg := svg_chart.line_chart(title, lines):
            caption = ", ".join([f"<b>{title}</b>", *said])
            figures.append(f"<figure><figcaption>{caption}</figcaption>{svg}</figure>")
    if not figures:
        return "<p>No epoch has ended yet.</p>"
    legend = "".join(f'<li class="of" style="--of:{group.color}">{_esc(group.label)}</li>' for group in groups)
    parts = [f'<ul class="legend">{legend}</ul><div class="plots">{"".join(figures)}</div>']
    if any(len(group.runs) > 1 for group in groups):
        parts.append("<p>Of several seeds the mean; what is shaded lies between the least and the most.</p>")
    epochs = [_epochs(label, run) for group in groups for label, run in group.runs.items() if run.history]
    return "".join([*parts, _folded("Every epoch", *epochs)])


def _line(group: Group, key: str, what: str, dash: str) -> svg_chart.Line | None:
    values: dict[float, list[float]] = {}
    for run in group.runs.values():
        for entry in run.history:
            if key in entry:
                values.setdefault(entry["epoch"], []).append(entry[key])
    if not values:
        return None
    points = [(epoch, statistics.fmean(of)) for epoch, of in sorted(values.items())]
    band = [(epoch, min(of), max(of)) for epoch, of in sorted(values.items())] if len(group.runs) > 1 else []
    return svg_chart.Line(f"{group.label} {what}", group.color, points, dash, band)


def _epochs(label: str, run: RunReader) -> Table:
    keys = list(dict.fromkeys(key for entry in reversed(run.history) for key in entry))  # the last has most
    rows = [[_value(entry.get(key, "")) for key in keys] for entry in run.history]
    return Table(label, [key.replace("_", " ") for key in keys], rows)


def _confusions(groups: Sequence[Group]) -> str:
    parts = []
    for group in groups:
        table = group.confusion
        if table is None:
            continue
        classes = group.first.classes(len(table))
        tables = [run.confusion for run in group.runs.values() if run.confusion is not None]
        summed = f", summed over {len(tables)} seeds" if len(tables) > 1 else ""
        parts.append(f'<h3 class="of" style="--of:{group.color}">{_esc(group.label)}</h3>')
        shown = f"<p>{len(table):,} classes are too many for a table to be read.</p>"
        if len(table) <= MAX_CLASSES:
            caption = f"Test images{summed}: the true class down, the given one across"
            shown = wide(_shaded(table, classes, caption), f"confusions of {group.label}")
        parts.append(f'<div class="beside">{shown}{_pairs(table, classes)}</div>')
    return "".join(parts)


def _shaded(table: torch.Tensor, classes: Sequence[str], caption: str) -> str:
    """A table of confusions: what is right in one color, what is wrong in another, as strong as its share."""
    names = "".join(f'<th scope="col"><span>{_esc(name)}</span></th>' for name in classes)
    rows = []
    for i, (name, row) in enumerate(zip(classes, table.tolist(), strict=True)):
        n = sum(row)
        cells = ""
        for j, count in enumerate(row):
            strength = (count / n) ** 0.5 if n else 0.0  # a root, so that a few in a hundred are seen
            kind = "right" if i == j else "wrong"
            deep = " deep" if strength > 0.6 else ""
            cells += f'<td class="{kind}{deep}" style="--s:{strength:.2f}">{count if count else ""}</td>'
        share = f"{row[i] / n:.1%}" if n else ""
        rows.append(f'<tr><th scope="row">{_esc(name)}</th>{cells}<td>{share}</td></tr>')
    return (
        f'<table class="confusion"><caption>{_esc(caption)}</caption><thead><tr><td></td>{names}'
        f'<th scope="col"><span>right</span></th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _pairs(table: torch.Tensor, classes: Sequence[str]) -> str:
    """The classes that are most often taken for another."""
    wrong = table.clone().fill_diagonal_(0)
    best = wrong.flatten().topk(min(MAX_PAIRS, wrong.numel()))
    rows = []
    for n, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        true, given = divmod(place, len(table))
        if n:
            rows.append([classes[true], classes[given], f"{n:,}", f"{n / int(table[true].sum()):.1%}"])
    if not rows:
        return "<p>Nothing is confused: every test image is right.</p>"
    return _wide(Table("Most often confused", ("this", "is taken for", "times", "of its images"), rows))


def _filters(groups: Sequence[Group]) -> str:
    figures = []
    for group in groups:
        for label, run in group.runs.items():
            if run.filters is None:
                continue
            name, weights = run.filters
            n, channels, *size = weights.shape
            shown = f", of which the first {svg_chart.MAX_TILES} are shown" if n > svg_chart.MAX_TILES else ""
            seen = "" if channels in (1, 3) else f", the mean of {channels} channels"
            about = f"{n} filters of {shape_text(tuple(size))} px, {name}{seen}{shown}"
            caption = f'<b class="of" style="--of:{group.color}">{_esc(label)}</b>: {_esc(about)}'
            figures.append(f"<figure>{svg_chart.tiles(weights, about)}<figcaption>{caption}</figcaption></figure>")
    if not figures:
        return ""
    how = "<p>The weights of the first convolution: gray is 0, black and white the largest weight of each filter.</p>"
    return f'<div class="filters">{"".join(figures)}</div>{how}'


def _counts(groups: Sequence[Group], diff: Diff) -> str:
    """The library's own counts of each network, the networks side by side, and how two of one name differ."""
    nets: dict[str, Group] = {}
    for group in groups:
        nets.setdefault(json.dumps(group.first.spec) if group.first.spec else group.label, group)
    counted = [(group, found) for group in nets.values() if (found := group.first.report) is not None]
    parts = []
    if len(counted) > 1:
        named = [dataclasses.replace(found, name=group.label) for group, found in counted]
        smallest = min(range(len(named)), key=lambda i: named[i].macs)
        parts.append(_wide(Comparison(named, smallest).table()))
    for a, b in ((a, b) for i, (b, _) in enumerate(counted) for a, _ in counted[:i] if a.first.name == b.first.name):
        one, other = a.first.module, b.first.module
        if one is not None and other is not None and (change := diff(one, other)):
            parts.append(_folded(f"How the network of {b.label} differs from that of {a.label}", *change.tables()))
    for group, found in counted:
        title = f"Layers of {group.first.name}" + (f" ({group.label})" if group.label != group.first.name else "")
        parts.append(_folded(title, *found.tables(), unfolded=len(found.layers) <= MAX_LAYERS))
    without = [group for group in nets.values() if group.first.report is None]
    for group in without:
        tensors = [(name, shape, math.prod(shape)) for name, shape in group.first.weights.items()]
        parts.append(f"<p>{_esc(group.first.name)} ({_esc(group.label)}) is no network that its files can build again, "
                     "so that its multiply-adds are not counted.</p>")  # fmt: skip
        if tensors:
            total = ("total", "", sum(n for *_, n in tensors))
            table = Table("Weights and buffers", ("tensor", "shape", "values"), tensors, total=total)
            parts.append(_folded(f"Tensors of {group.label}", table, unfolded=len(tensors) <= MAX_LAYERS))
    return "".join(parts)


def _settings(groups: Sequence[Group]) -> str:
    """The config: among several what differs, then what all have and no default."""
    defaults = TrainConfig().to_dict()
    said = [[run.part("config") for run in group.runs.values()] for group in groups]
    names = list(dict.fromkeys([*defaults, *(name for of in said for config in of for name in config)]))
    differing, common = [], []
    for name in names:
        values = [list(dict.fromkeys(_value(c[name]) if name in c else "" for c in of)) for of in said]
        default = _value(defaults[name]) if name in defaults else ""
        about = TrainConfig.describe(name) if name in defaults else "not known to this version"
        if len({tuple(of) for of in values}) > 1 or (len(groups) == 1 and len(values[0]) > 1):
            differing.append([name, *(", ".join(of) for of in values), default, about])
        elif values[0] != [default]:
            common.append([name, ", ".join(values[0]), default, about])
    about_runs = [
        [what, *values, "", ""]
        for what, values in (
            ("network", [group.first.name for group in groups]),
            ("data", [group.first.data_name for group in groups]),
        )
        if len(set(values)) > 1
    ]
    parts = []
    if differing or about_runs:
        headers = ["", *(group.label for group in groups), "default", "what it is"]
        parts.append(_wide(Table("What differs between the runs", headers, [*about_runs, *differing])))
    if common:
        headers = ["", "the same in all runs" if len(groups) > 1 else "here", "default", "what it is"]
        parts.append(_wide(Table("Other than the default", headers, common)))
    parts.append("<p>Every other field has its default.</p>" if any(map(any, said)) else "<p>No config was left.</p>")
    return "".join(parts)


def _origin(groups: Sequence[Group]) -> str:
    runs = [(label, run) for group in groups for label, run in group.runs.items()]
    parts = []
    for told, of in groupby(runs, key=lambda pair: [(s.get("step"), s.get("command")) for s in pair[1].sessions]):
        parts.append(f"<h3>{_esc(_listed([label for label, _ in of]))}</h3>")
        for step, command in told:
            how = f"<p>Resumed at step {_esc(_value(step))}:</p>" if step else ""
            parts.append(f"{how}<pre><code>{_esc(command or 'no command was noted')}</code></pre>")
    data = dict.fromkeys((run.data_name, str(run.part("data").get("sha256"))) for _, run in runs)
    parts.append(_wide(Table("Data", ("name", "SHA-256 of images and labels"), list(data))))
    sums = [[label, *run.checksum] for label, run in runs if run.checksum[0]]
    if sums:
        parts.append(_wide(Table("Weights", ("run", "SHA-256 of the weights", "where it is from"), sums)))
    machines = {label: [m for s in run.sessions if isinstance(m := s.get("machine"), dict)] for label, run in runs}
    keys = list(dict.fromkeys(key for each in machines.values() for machine in each for key in machine))
    shown: dict[tuple[str, ...], list[str]] = {}
    for label, each in machines.items():
        values = tuple("; ".join(dict.fromkeys(_value(m[key]) for m in each if key in m)) for key in keys)
        shown.setdefault(values, []).append(label)
    if keys:
        headers = ["", *(_listed(labels) for labels in shown.values())]
        rows = [[key, *(values[i] for values in shown)] for i, key in enumerate(keys)]
        parts.append(_wide(Table("Machine and versions", headers, rows)))
    return "".join(parts)


# --- small things ---


def _esc(text: object) -> str:
    return html.escape(str(text))


def _wide(table: Table) -> str:
    return wide(table.html(), table.title)


def _folded(title: str, *tables: Table, unfolded: bool = False) -> str:
    body = "".join(map(_wide, tables))
    return f"<details{' open' if unfolded else ''}><summary>{_esc(title)}</summary>{body}</details>"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _figure(value: object, form: str) -> str:
    """A figure in its form; a word as it is."""
    if value is None:
        return ""
    return f"{value:{form}}" if is_number(value) and form else _value(value)


def _value(value: object) -> str:
    """A value as it is written in a file; words without their quotes."""
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    if isinstance(value, float) and value == value:
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


_STYLE = """
body { color: var(--ink); background: var(--ground); max-width: 70rem; }
h1 { font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; overflow-wrap: anywhere; }
p { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .9rem; }
nav a { color: var(--soft); }
.note { border-left: 3px solid #c8553d; padding-left: .7rem; overflow-wrap: anywhere; }
ul { list-style: none; margin: 0; padding: 0; }
.cards { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
.cards li { background: var(--card); border-left: 4px solid currentColor; border-radius: 6px; padding: .7rem .9rem; }
.cards li > * { display: block; overflow-wrap: anywhere; }
.cards span, .cards small { color: var(--soft); }
.cards span b { color: var(--ink); font-size: 1.7rem; font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-weight: 600; }
.legend li { overflow-wrap: anywhere; }
.legend li::before { content: ""; display: inline-block; width: 1.4rem; border-top: 3px solid; margin-right: .4rem;
  vertical-align: middle; }
.plots { display: grid; align-items: end; gap: 1.2rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(25rem, 100%), 1fr)); }
figcaption { font-size: .9rem; color: var(--soft); }
figcaption b:not(.of) { color: var(--ink); }
.filters { display: flex; flex-wrap: wrap; gap: 1.2rem 2rem; }
.filters figure { max-width: 100%; }
.filters img { display: block; max-width: 100%; height: auto; margin-bottom: .3rem; }
.beside { display: flex; flex-wrap: wrap; gap: 0 3rem; }
.beside > * { max-width: 100%; }
#results td:first-child, #results th:first-child { position: sticky; left: 0; background: var(--ground); }
@media (max-width: 34rem) { #results td:first-child { white-space: normal; min-width: 7rem; } }
#settings td:last-child { white-space: normal; min-width: 16rem; }
details { margin: .6rem 0; }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
pre { background: var(--card); border-radius: 6px; padding: .7rem .9rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .85rem; }
td, th { border-bottom: 1px solid var(--line); }
.confusion { font-size: .8rem; }
.confusion td, .confusion th { border: 0; padding: .2rem .45rem; }
.confusion td { text-align: right; min-width: 1.5em; }
.confusion thead th { border: 0; vertical-align: bottom; font-weight: 500; }
.confusion thead span { writing-mode: vertical-rl; transform: rotate(180deg); }
@media (max-width: 34rem) {
  .confusion { font-size: .68rem; }
  .confusion td, .confusion th { padding: .2rem .25rem; }
}
.confusion tbody th { text-align: right; font-weight: 500; }
.confusion .right { background: rgb(47 102 144 / var(--s)); }
.confusion .wrong { background: rgb(200 85 61 / var(--s)); }
.confusion .deep { color: white; }
@media (prefers-color-scheme: dark) { .confusion .wrong { background: rgb(226 106 82 / var(--s)); } }
.confusion td { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
@media print {
  body { max-width: none; margin: 0; font-size: 11px; }
  nav { display: none; }
  .plots { grid-template-columns: 1fr 1fr; }
  div.wide { overflow: visible; }
  table { font-size: 9px; }
  td, th { padding: .1rem .35rem; white-space: normal; position: static !important; }
  tfoot { display: table-row-group; }
  details::details-content { content-visibility: visible; }
  figure, tr, .cards li, .confusion { break-inside: avoid; }
  h2, h3, summary { break-after: avoid; }
}
"""
