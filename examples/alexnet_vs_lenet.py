"""AlexNet against LeNet: shapes, counts, the lecture's slide, training, filters, confusions, views, ablations.

    python examples/alexnet_vs_lenet.py                                     # small, on the bundled sample: minutes
    python examples/alexnet_vs_lenet.py --data fashion_mnist --recipe d2l --width 1      # as in the lecture: hours
    python examples/alexnet_vs_lenet.py --runs runs/alexnet runs/lenet docs/records/fast-lenet.json --parts runs
    python examples/alexnet_vs_lenet.py --out docs --parts                  # only updates the page

The script writes every number to OUT/alexnet-vs-lenet.json, part by part. Its tables come from that file and from the
library. If OUT/alexnet-vs-lenet.md exists, the tables between its marks are updated. ``--runs`` accepts run folders and
records; the parts "filters" and "views" need folders, which contain weights.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch
from ablations import train_variants
from alexnet_vs_lenet_figures import plot_confusions, plot_curves, plot_filters
from alexnet_vs_lenet_tables import MODELS, Numbers, all_tables, last_runs, update_page
from features_first import train_each_way
from sizes import VIEWS

import cnnzoo
from cnnzoo import ImageData, TrainConfig
from cnnzoo.train import record

NAME = "alexnet-vs-lenet"
PARTS = ("runs", "filters", "views", "alexnet variants", "lenet variants", "features first")


def read_runs(paths: Sequence[Path]) -> list[Numbers]:
    """Returns the config, results, learning curve and confusion matrix of each run folder or record."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            file = path if path.suffix == ".json" else Path(folder) / "run.json"
            if file is not path:
                record([path], file, overwrite=True)
            content = json.loads(file.read_text())
            first, metrics = content["runs"][0], [run["metrics"] for run in content["runs"]]
            session = content["sessions"][0]
            machine = session["machine"]
            means = ("epochs", "loss", "train_acc", "test_acc", "examples_per_sec")
            curve = ("epoch", "loss", "train_acc", "test_acc")
            runs.append(
                {
                    "model": content["architecture"],
                    "recipe": recipe_text(TrainConfig.from_dict(content["config"])),
                    "data": content["data"]["name"],
                    "command": session["command"],
                    "machine": ", ".join(machine["gpus"]) or f"{machine['cores']} cores",
                    "precision": first["metrics"]["precision"],
                    "seeds": len(metrics),
                    **{key: fmean(m[key] for m in metrics) for key in means},
                    "history": [{key: entry[key] for key in curve if key in entry} for entry in first["history"]],
                    "confusion": first["metrics"]["evaluations"]["test"]["confusion"],
                }
            )
    return runs


def recipe_text(config: TrainConfig) -> str:
    """Returns the recipe from which a config differs least, and the differences."""
    defaults = {"checkpoint_every": 0, "log_every": 50, "seed": 0, "device": "auto"}  # not part of a recipe

    def changes(name: str) -> list[str]:
        theirs, ours = (c.replace(**defaults).to_dict() for c in (cnnzoo.recipe(name), config))
        return [f"{key}={value}" for key, value in ours.items() if value != theirs[key]]

    nearest = min(cnnzoo.list_recipes(), key=lambda name: len(changes(name)))
    return ", ".join([nearest, *changes(nearest)])


def evaluate_views(folders: Sequence[Path], data: ImageData) -> Numbers:
    """Returns the test accuracy of each run for each value of ``views``."""
    rows = []
    for folder in folders:
        model = cnnzoo.load(folder)
        recipe = recipe_text(TrainConfig.from_dict(model.metadata.provenance["config"]))
        accuracies = {views: cnnzoo.evaluate(model, data, views=views).top1 for views in VIEWS}
        rows.append({"model": model.spec.name, "recipe": recipe, **accuracies})
    return {"data": data.name, "test_images": len(data.test), "rows": rows}


def analyze_filters(folders: Sequence[Path], data: ImageData, path: Path) -> list[Numbers]:
    """Splits the filters of the first layers into initial weights and learned part; plots both to ``path``."""
    rows, parts = [], {}
    for folder in folders:
        model = cnnzoo.load(folder)
        config = TrainConfig.from_dict(model.metadata.provenance["config"])
        initial_model = cnnzoo.create(model.spec, seed=config.seed)
        with suppress(StopBeforeTraining):  # the trainer applies the config's init, with the same random numbers
            cnnzoo.Trainer(initial_model, data, config, callbacks=[StopBeforeTraining()], show=False).fit()
        filters, initial = (
            next(module.weight.detach() for module in network.modules() if isinstance(module, torch.nn.Conv2d))
            for network in (model, initial_model)
        )
        scale = float((filters * initial).sum() / (initial * initial).sum())  # weight decay shrinks the initial weights
        learned = filters - scale * initial
        rows.append(
            {
                "model": model.spec.name,
                "recipe": recipe_text(config),
                "count": len(filters),
                "side": filters.shape[-1],
                "initial": scale,
                "learned": float(learned.norm() / filters.norm()),
            }
        )
        parts[model.spec.name] = (filters.mean(1), learned.mean(1))
    plot_filters(parts, path)
    return rows


class StopBeforeTraining(Exception):
    """A callback that ends a run before its first step, by raising itself."""

    def on_start(self, trainer: cnnzoo.Trainer) -> None:
        raise self


def compare_variants(model: str, data: ImageData, width: float, epochs: int | None) -> Numbers:
    """Returns the results of the ablations of a model."""
    return {"width": width, **sizes(data), "rows": list(train_variants(model, data, epochs=epochs, width=width))}


def compare_features(data: ImageData, epochs: int) -> Numbers:
    """Returns the results of training features and classifier jointly, or one after the other."""
    spec = cnnzoo.get_spec("lenet", activation="relu", pooling="max")
    rows = list(train_each_way(spec, data, cnnzoo.recipe("quick").replace(epochs=epochs)))
    return {"epochs": epochs, **sizes(data), "rows": rows}


def sizes(data: ImageData) -> Numbers:
    """Returns name and sizes of a data set."""
    return {"data": data.name, "train_images": len(data.train), "test_images": len(data.test)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="parts to compute (default: all)")
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="finished run folders or records")
    parser.add_argument("--data", default="fashion_mnist_sample", help="name of a data set")
    parser.add_argument("--images", type=int, help="number of images for training and for testing (default: all)")
    parser.add_argument("--recipe", default="quick", help="recipe for both models, without --runs")
    parser.add_argument("--epochs", type=int, help="number of epochs (default: the recipes')")
    parser.add_argument("--width", type=float, default=0.25, help="width of the AlexNet that is trained here")
    parser.add_argument("--out", type=Path, default=Path("runs/alexnet_vs_lenet"))
    args = parser.parse_args()
    folders = [run for run in args.runs if run.suffix != ".json"]
    if args.runs and not folders and {"filters", "views"} & set(args.parts):
        parser.error("filters and views need weights, which records do not have: give run folders, or --parts runs")

    (args.out / "pictures").mkdir(parents=True, exist_ok=True)
    file, page = args.out / f"{NAME}.json", args.out / f"{NAME}.md"
    pictures = {what: args.out / "pictures" / f"{NAME}-{what}.png" for what in ("curves", "confusion", "filters")}
    numbers: Numbers = json.loads(file.read_text()) if file.exists() else {}
    data = cnnzoo.load_data(args.data)
    data = replace(data, train=data.train[: args.images], test=data.test[: args.images])
    numbers["classes"] = list(data.classes)
    runs = args.runs
    if not runs and {"runs", "filters", "views"} & set(args.parts):
        settings = {"epochs": args.epochs} if args.epochs else {}
        alexnet = cnnzoo.get_spec("alexnet", width=args.width)
        comparison = cnnzoo.compare(alexnet, "lenet", train=data, recipe=args.recipe, settings=settings, out=args.out)
        if any(result["interrupted"] for result in comparison.results):
            raise KeyboardInterrupt
        runs = folders = [args.out / model for model in MODELS]
    compute = {
        "runs": lambda: read_runs(runs),
        "filters": lambda: analyze_filters(folders, data, pictures["filters"]),
        "views": lambda: evaluate_views(folders, data),
        "alexnet variants": lambda: compare_variants("alexnet", data, args.width, args.epochs),
        "lenet variants": lambda: compare_variants("lenet", data, 1.0, args.epochs),
        "features first": lambda: compare_features(data, args.epochs or 10),
    }
    for part in args.parts:
        numbers[part] = compute[part]()
        file.write_text(json.dumps(numbers, indent=1) + "\n")  # after each part: some take hours
    if "runs" in numbers:
        plot_curves(numbers["runs"], pictures["curves"])
        plot_confusions(last_runs(numbers["runs"]), numbers["classes"], pictures["confusion"])
    tables = all_tables(numbers)
    if page.exists():
        page.write_text(update_page(page.read_text(), tables))
    print("\n\n".join(table.text() for contents in tables.values() for table in contents))
    print(f"\nnumbers and pictures: {args.out}")


if __name__ == "__main__":
    main()
