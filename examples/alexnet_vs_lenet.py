"""AlexNet against LeNet, all of it: shapes, counts, a slide audited, training, filters, confusions, crops, ablations.

    python examples/alexnet_vs_lenet.py                                     # small, on the bundled sample: minutes
    python examples/alexnet_vs_lenet.py --data fashion_mnist --recipe d2l --width 1      # as the lecture: hours
    python examples/alexnet_vs_lenet.py --runs runs/alexnet runs/lenet docs/records/fast-lenet.json --parts trained
    python examples/alexnet_vs_lenet.py --out docs --parts                  # the page alone, of the numbers it has

Every figure is left in OUT/alexnet-vs-lenet.json, part by part, with its setting; each table is made of it, or by the
library. Where OUT/alexnet-vs-lenet.md is a page with marks for them, they are written there, too. ``--runs`` takes run
folders and records; filters and crops need folders, since they look at the weights.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from ablations import train_all
from features_first import ways
from matplotlib.figure import Figure
from sizes import VIEWS

import cnnzoo
from cnnzoo import ImageData, TrainConfig
from cnnzoo.measure.layer_plot import COLORS, FAINT, INK, despine, save_figure
from cnnzoo.measure.tables import Table
from cnnzoo.models.alexnet import D2L_ALEXNET
from cnnzoo.published import D2L_SLIDE
from cnnzoo.train import record

NETS = ("alexnet", "lenet")
NAME = "alexnet-vs-lenet"
PARTS = ("trained", "filters", "crops", "alexnet variants", "lenet variants", "features first")
Numbers = dict[str, Any]

# --- what is measured ---


def trained(runs: Sequence[Path]) -> list[Numbers]:
    """What each run folder or record says of its training."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            file = run if run.suffix == ".json" else Path(folder) / "run.json"
            if file is not run:
                record([run], file)
            told = json.loads(file.read_text())
            first, metrics = told["runs"][0], [one["metrics"] for one in told["runs"]]
            machine = told["began"]["machine"]
            means = ("epochs", "loss", "train_acc", "test_acc", "examples_per_sec")
            curve = ("epoch", "loss", "train_acc", "test_acc")
            found.append(
                {
                    "net": told["architecture"],
                    "recipe": recipe_of(TrainConfig.from_dict(told["config"])),
                    "data": told["data"]["name"],
                    "command": told["began"]["command"],
                    "machine": ", ".join(machine["gpus"]) or f"{machine['cores']} cores",
                    "precision": first["metrics"]["precision"],
                    "seeds": len(metrics),
                    **{key: fmean(m[key] for m in metrics) for key in means},
                    "history": [{key: entry[key] for key in curve if key in entry} for entry in first["history"]],
                    "confusion": first["metrics"]["evaluations"]["test"]["confusion"],
                }
            )
    return found


def recipe_of(config: TrainConfig) -> str:
    """The recipe that a config is nearest to, and what it changes."""
    still = {"checkpoint_every": 0, "log_every": 50, "seed": 0, "device": "auto"}  # nothing else is learned for these

    def changes(name: str) -> list[str]:
        theirs, ours = (c.replace(**still).to_dict() for c in (cnnzoo.recipe(name), config))
        return [f"{key}={value}" for key, value in ours.items() if value != theirs[key]]

    nearest = min(cnnzoo.list_recipes(), key=lambda name: len(changes(name)))
    return ", ".join([nearest, *changes(nearest)])


def crops(runs: Sequence[Path], data: ImageData) -> Numbers:
    """Test accuracy when several windows of an image are looked at."""
    rows = []
    for run in runs:
        model = cnnzoo.load(run)
        came = model.notes["provenance"]
        about = {"net": model.spec.name, "recipe": recipe_of(TrainConfig.from_dict(came["config"]))}
        rows.append({**about, **{kind: cnnzoo.evaluate(model, data, views=kind).top1 for kind in VIEWS}})
    return {"data": data.name, "tested": len(data.test), "rows": rows}


def filters(runs: Sequence[Path], data: ImageData, path: Path) -> list[Numbers]:
    """What training left of the initial filters of the first layers, and what it added; their picture."""
    told, drawn = [], {}
    for run in runs:
        model = cnnzoo.load(run)
        config = TrainConfig.from_dict(model.notes["provenance"]["config"])
        fresh = cnnzoo.create(model.spec, seed=config.seed)
        with suppress(Begun):  # where the config has an init, the trainer draws the same initial weights again
            cnnzoo.Trainer(fresh, data, config, callbacks=[Begun()], show=False).fit()
        end, begin = (
            next(module.weight.detach() for module in net.modules() if isinstance(module, torch.nn.Conv2d))
            for net in (model, fresh)
        )
        left = float((end * begin).sum() / (begin * begin).sum())  # weight decay takes its share of them
        learned = end - left * begin
        about = {"net": model.spec.name, "recipe": recipe_of(config), "count": len(end), "side": end.shape[-1]}
        told.append({**about, "left": left, "learned": float(learned.norm() / end.norm())})
        drawn[model.spec.name] = (end.mean(1), learned.mean(1))
    draw_filters(drawn, path)
    return told


class Begun(Exception):
    """Ends a run before its first step."""

    def on_start(self, trainer: cnnzoo.Trainer) -> None:
        raise self


def variants(net: str, data: ImageData, width: float, epochs: int | None) -> Numbers:
    """What each part of a net buys."""
    return {"width": width, **setting(data), "rows": list(train_all(net, data, epochs=epochs, width=width))}


def features_first(data: ImageData, epochs: int) -> Numbers:
    """Features and softmax trained together, or one after the other."""
    spec = cnnzoo.get_spec("lenet", activation="relu", pooling="max")
    rows = list(ways(spec, data, cnnzoo.recipe("quick").replace(epochs=epochs)))
    return {"epochs": epochs, **setting(data), "rows": rows}


def setting(data: ImageData) -> Numbers:
    """What was learned from, and tested on."""
    return {"data": data.name, "learned": len(data.train), "tested": len(data.test)}


# --- what is shown ---


def tables(numbers: Numbers) -> dict[str, list[Table]]:
    """Part of the page -> its tables; the first few need no numbers, the library says them here and now."""
    shown = {
        "shapes of alexnet": list(cnnzoo.count("alexnet").tables()),
        "shapes of lenet": list(cnnzoo.count("lenet").tables()),
        "counts": list(cnnzoo.compare(*map(cnnzoo.count, NETS)).tables()),  # the claims about both follow below
        "where": [where()],
        "slide": [slide("parameters"), slide("FLOP")],
        "book": [table for table in cnnzoo.verify("alexnet").tables() if D2L_ALEXNET in table.title],
    }
    makers = {
        "trained": lambda told: [trained_table(told)],
        "confused": lambda told: [confused(told, numbers["classes"])],
        "filters": lambda told: [filters_table(told)],
        "crops": lambda told: [crops_table(told)],
        "alexnet variants": lambda told: [variants_table("alexnet", told)],
        "lenet variants": lambda told: [variants_table("lenet", told)],
        "features first": lambda told: [features_table(told)],
    }
    for part, make in makers.items():
        if (told := numbers.get("trained" if part == "confused" else part)) is not None:
            shown[part] = make(told)
    return shown


def slide(quantity: str) -> Table:
    """Cell by cell: what the lecture's slide prints, and what is true."""
    cells = {
        (finding.published.what, net): finding
        for net in NETS
        for finding in cnnzoo.verify(net).findings
        if finding.published.source == D2L_SLIDE and finding.published.what.endswith(quantity)
    }
    rows: list[list[Any]] = []
    notes: dict[tuple[str, str], list[str]] = {}
    for what in dict.fromkeys(what for what, _ in cells):
        rows.append([what.removesuffix(quantity).removesuffix(" of ").strip().capitalize() or "Total"])
        for net in NETS:
            found = cells.get((what, net))
            rows[-1] += [found.published.printed, exactly(found.exact), found.verdict] if found else [""] * 3
            if found and found.published.note:
                notes.setdefault((net, found.published.note), []).append(rows[-1][0])
    headers = ["", *(column for net in NETS for column in (net, "exact", "verdict"))]
    lines = [f"{net}, {', '.join(whats)}: {note}." for (net, note), whats in sorted(notes.items())]
    return Table(f"The slide's {quantity}", headers, rows, notes=lines)


def exactly(exact: float | None) -> str:
    """A count, or a ratio of counts."""
    return "" if exact is None else f"{exact:,}" if isinstance(exact, int) else f"{exact:,.0f}x"


def where() -> Table:
    """What convolutions hold and do, and what dense layers."""
    rows = []
    for net in NETS:
        report = cnnzoo.count(net)
        for kind in ("Conv2d", "Linear"):
            sums = report.by("kind")[kind]
            params, macs = sums["params"], sums["macs"]
            shares = [f"{100 * a / b:.1f} %" for a, b in ((params, report.params.total), (macs, report.macs))]
            rows.append((net, kind, params, shares[0], macs, shares[1]))
    headers = ("net", "layers", "parameters", "of all", "multiply-adds", "of all")
    return Table("Where the parameters sit, and where the operations", headers, rows)


def trained_table(runs: Sequence[Numbers]) -> Table:
    """What the lecture prints of its run, and what ours gave."""
    printed = {f.published.what: f.published.printed for f in cnnzoo.verify("alexnet").findings}
    figures = ("training loss", "training accuracy", "test accuracy", "examples/sec on one GPU")
    rows: list[Sequence[Any]] = [["alexnet", "the lecture's run, as printed", *map(printed.get, figures), "one GPU"]]
    for run in runs:
        times = f" (mean of {run['seeds']} seeds)" if run["seeds"] > 1 else ""
        accuracies = [f"{run[key]:.4f}" for key in ("train_acc", "test_acc")]
        speed = f"{run['examples_per_sec']:,.0f}"
        how = f"{run['machine']}, {run['precision']}"
        rows.append([run["net"], run["recipe"] + times, f"{run['loss']:.3f}", *accuracies, speed, how])
    title = f"Trained on {', '.join(dict.fromkeys(run['data'] for run in runs))}"
    headers = ("net", "recipe", "loss", "train accuracy", "test accuracy", "images/s", "machine")
    notes = ["images/s: of the training steps alone, as the lecture counts.", *(f"`{run['command']}`" for run in runs)]
    return Table(title, headers, rows, notes=notes)


def last_of_each(runs: Sequence[Numbers]) -> list[Numbers]:
    """The last run of each net, where there is one."""
    return [run[-1] for net in NETS if (run := [run for run in runs if run["net"] == net])]


def confused(runs: Sequence[Numbers], classes: Sequence[str], most: int = 5) -> Table:
    """The classes that each net takes for each other most often."""
    rows = []
    for run in last_of_each(runs):
        counts = torch.tensor(run["confusion"])
        for place in (counts + counts.T).triu(1).flatten().topk(most).indices.tolist():
            a, b = divmod(place, len(classes))
            rows.append((run["net"], classes[a], classes[b], int(counts[a, b]), int(counts[b, a])))
    notes = [
        f"{run['net']}: {run['recipe']}, {torch.tensor(run['confusion']).sum():,} test images."
        for run in last_of_each(runs)
    ]
    return Table("The most confused pairs", ("net", "a", "b", "a taken for b", "b taken for a"), rows, notes=notes)


def filters_table(told: Sequence[Numbers]) -> Table:
    """A row per net."""
    rows = [
        [row["net"], row["recipe"], f"{row['count']} of {row['side']}x{row['side']}"]
        + [f"{row[key]:.2f}" for key in ("left", "learned")]
        for row in told
    ]
    notes = [
        "left: the factor by which the initial weights are still in the filters (1: unchanged, above 1: enlarged by "
        "training); learned: the length of the rest, over the length of the filters."
    ]
    return Table("The filters of the first layer", ("net", "recipe", "filters", "left", "learned"), rows, notes=notes)


def crops_table(told: Numbers) -> Table:
    """A row per net."""
    rows = [[row["net"], row["recipe"], *(f"{row[kind]:.4f}" for kind in VIEWS)] for row in told["rows"]]
    return Table(f"Seen on {told['tested']:,} test images of {told['data']}", ("net", "recipe", *VIEWS), rows)


def variants_table(net: str, told: Numbers) -> Table:
    """A row per variant, and what it changes in test accuracy."""
    first, rows = told["rows"][0]["test_acc"], []
    for row in told["rows"]:
        accuracies = [f"{row['train_acc']:.3f}", f"{row['test_acc']:.3f}", f"{row['test_acc'] - first:+.3f}"]
        rows.append((row["name"], row["parameters"], row["macs"], *accuracies))
    width = "" if told["width"] == 1 else f" at width {told['width']:g}"
    title = f"Variants of {net}{width}, {told['rows'][0]['epochs']} epochs, {of(told)}"
    headers = ("variant", "parameters", "multiply-adds", "train", "test", "change")
    recipes = "two recipes: sigmoid nets learned by quick/lenet, ReLU nets by quick (see examples/ablations.py)."
    return Table(title, headers, rows, notes=[luck(told), *([recipes] if net == "lenet" else [])])


def features_table(told: Numbers) -> Table:
    """A row per way."""
    rows = [(row["name"], row["trained"], f"{row['train_acc']:.3f}", f"{row['test_acc']:.3f}") for row in told["rows"]]
    title = f"LeNet with ReLU and max pools, {told['epochs']} epochs, {of(told)}"
    return Table(title, ("way", "parameters that learn", "train", "test"), rows, notes=[luck(told)])


def of(told: Numbers) -> str:
    """How much was learned from."""
    return f"{told['learned']:,} images of {told['data']}"


def luck(told: Numbers) -> str:
    """How far chance alone moves an accuracy."""
    p = told["rows"][0]["test_acc"]
    error = (p * (1 - p) / told["tested"]) ** 0.5
    return f"one seed; on {told['tested']:,} test images the first accuracy has a standard error of {error:.3f}."


# --- pictures ---


def draw_curves(runs: Sequence[Numbers], path: Path) -> None:
    """Loss and accuracy per epoch, and where the lecture's run ends."""
    printed = {f.published.what: f.published.printed for f in cnnzoo.verify("alexnet").findings}
    figure = Figure(figsize=(11, 4.2), layout="constrained", facecolor="white")
    loss, accuracy = figure.subplots(1, 2)
    for run, color in zip(runs, COLORS, strict=False):
        epochs, label = [entry["epoch"] for entry in run["history"]], f"{run['net']}, {run['recipe'].split(',')[0]}"
        loss.plot(epochs, [entry["loss"] for entry in run["history"]], "o-", color=color, markersize=3, label=label)
        accuracy.plot(epochs, [entry["train_acc"] for entry in run["history"]], "--", color=color, linewidth=1.1)
        tested = {entry["epoch"]: entry["test_acc"] for entry in run["history"] if "test_acc" in entry}
        accuracy.plot(list(tested), list(tested.values()), "o-", color=color, markersize=3)
    for axis, title, what in ((loss, "loss in training", "training loss"), (accuracy, "accuracy", "test accuracy")):
        axis.plot(10, float(printed[what]), "*", color=INK, markersize=11, label="alexnet, the lecture's")
        axis.set_title(title + (": test solid, train dashed" if axis is accuracy else ""), fontsize=10.5, color=INK)
        axis.set_xlabel("epoch", fontsize=9, color=INK)
        despine(axis)
        axis.grid(True, color=FAINT, linewidth=0.6)
    accuracy.set_ylim(top=1)
    loss.legend(frameon=False, fontsize=8.5)
    save_figure(figure, path)


def draw_confusions(runs: Sequence[Numbers], classes: Sequence[str], path: Path) -> None:
    """A table per net: rows are the true classes, what is right is left pale so that the errors are seen."""
    figure = Figure(figsize=(5.6 * len(runs), 5.4), layout="constrained", facecolor="white")
    for axis, run in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs, strict=True):
        counts = torch.tensor(run["confusion"], dtype=torch.float64)
        shares = counts / counts.sum(1, keepdim=True)
        wrong = shares.clone().fill_diagonal_(0)
        axis.imshow(wrong.numpy(), cmap="Reds", vmin=0, vmax=0.2)
        for i in range(len(classes)):
            for j in range(len(classes)):
                if counts[i, j] >= 1:
                    ink = "white" if wrong[i, j] > 0.12 else INK
                    weight = "bold" if i == j else "normal"
                    axis.text(
                        j, i, f"{counts[i, j]:.0f}", ha="center", va="center", color=ink, fontsize=7, weight=weight
                    )
        axis.set_xticks(range(len(classes)), classes, rotation=50, ha="right")
        axis.set_yticks(range(len(classes)), classes)
        despine(axis)
        axis.spines["bottom"].set_visible(False)
        axis.set_title(
            f"{run['net']}, {run['recipe'].split(',')[0]}: {counts.trace() / counts.sum():.4f}",
            fontsize=11,
            color=COLORS[NETS.index(run["net"])],
            weight="bold",
        )
    figure.supxlabel("taken for", fontsize=9, color=INK)
    save_figure(figure, path)


def draw_filters(filters: dict[str, tuple[torch.Tensor, torch.Tensor]], path: Path) -> None:
    """The filters of the first layer of each net, and what training added to them."""
    figure = Figure(figsize=(8.4, 4.3), layout="constrained", facecolor="white")
    grid = figure.subplots(len(filters), 2, squeeze=False, height_ratios=[4, 1][: len(filters)])
    for line, (net, both) in zip(grid, filters.items(), strict=True):
        for axis, some, what in zip(line, both, ("as they are", "what was learned"), strict=True):
            axis.imshow(mosaic(some).numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
            axis.set_axis_off()
            title = f"{net}, {len(some)} of {'x'.join(map(str, some.shape[1:]))}: {what}"
            axis.set_title(title, color=COLORS[NETS.index(net)], fontsize=10.5, weight="bold")
    save_figure(figure, path)


def mosaic(filters: torch.Tensor) -> torch.Tensor:
    """(n, h, w) side by side in one picture, each scaled to its own range, with gaps that are not numbers."""
    columns = 12 if len(filters) > 12 else 6
    scaled = filters / filters.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)
    padded = torch.nn.functional.pad(scaled, (1, 1, 1, 1), value=float("nan"))
    missing = -len(padded) % columns
    padded = torch.cat([padded, padded.new_full((missing, *padded.shape[1:]), float("nan"))])
    rows = padded.unflatten(0, (-1, columns))
    return rows.transpose(1, 2).flatten(2).flatten(0, 1)


# --- the page ---


def written(page: str, shown: dict[str, list[Table]]) -> str:
    """A page with each of its tables, which stand between marks, made anew."""
    for part, made in shown.items():
        begin, end = f"<!-- {part}: made by examples/alexnet_vs_lenet.py -->", f"<!-- end of {part} -->"
        table = "\n".join(table.markdown() for table in made)
        page = re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{table}\n{end}", page, flags=re.DOTALL)  # noqa: B023
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="what is measured; none: no numbers")
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="trained already: run folders, or records")
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--images", type=int, help="learn from the first so many alone, test on as many")
    parser.add_argument("--recipe", default="quick", help="for both nets, without --runs")
    parser.add_argument("--epochs", type=int, help="instead of the recipes'")
    parser.add_argument("--width", type=float, default=0.25, help="of the AlexNet that is trained here")
    parser.add_argument("--out", type=Path, default=Path("runs/alexnet_vs_lenet"))
    options = parser.parse_args()
    folders = [run for run in options.runs if run.suffix != ".json"]
    if options.runs and not folders and {"filters", "crops"} & set(options.parts):
        parser.error("filters and crops look at weights, which a record has not: give run folders, or --parts trained")

    (options.out / "pictures").mkdir(parents=True, exist_ok=True)
    file, page = options.out / f"{NAME}.json", options.out / f"{NAME}.md"
    drawn = ("lenet", "layers", "curves", "confusion", "filters")
    picture = {what: options.out / "pictures" / f"{NAME}-{what}.png" for what in drawn}
    numbers: Numbers = json.loads(file.read_text()) if file.exists() else {}
    data = cnnzoo.load_data(options.data)
    data = replace(data, train=data.train[: options.images], test=data.test[: options.images])
    numbers["classes"] = list(data.classes)
    runs = options.runs
    if not runs and {"trained", "filters", "crops"} & set(options.parts):
        settings = {"epochs": options.epochs} if options.epochs else {}
        alexnet = cnnzoo.get_spec("alexnet", width=options.width)
        found = cnnzoo.compare(alexnet, "lenet", train=data, recipe=options.recipe, settings=settings, out=options.out)
        if any(result["interrupted"] for result in found.results):
            raise KeyboardInterrupt
        runs = folders = [options.out / net for net in NETS]
    measure = {
        "trained": lambda: trained(runs),
        "filters": lambda: filters(folders, data, picture["filters"]),
        "crops": lambda: crops(folders, data),
        "alexnet variants": lambda: variants("alexnet", data, options.width, options.epochs),
        "lenet variants": lambda: variants("lenet", data, 1.0, options.epochs),
        "features first": lambda: features_first(data, options.epochs or 10),
    }
    for part in options.parts:
        numbers[part] = measure[part]()
        file.write_text(json.dumps(numbers, indent=1) + "\n")  # a part at a time: some take hours
    cnnzoo.compare(*NETS).plot(picture["layers"])
    cnnzoo.draw("lenet", picture["lenet"])
    if "trained" in numbers:
        draw_curves(numbers["trained"], picture["curves"])
        draw_confusions(last_of_each(numbers["trained"]), numbers["classes"], picture["confusion"])
    shown = tables(numbers)
    if page.exists():
        page.write_text(written(page.read_text(), shown))
    print("\n\n".join(table.text() for made in shown.values() for table in made))
    print(f"\nnumbers and pictures: {options.out}")


if __name__ == "__main__":
    main()
