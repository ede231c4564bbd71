"""The card of a model: what a reader of its folder or its page on the Hub wants to know, from the model alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cnnzoo.measure.counter import count_image
from cnnzoo.network import CNN
from cnnzoo.registry import Entry, get_entry, is_model

CARD = "README.md"


def card(model: CNN, checksum: str, *, source: str = "", curves: bool = False, license: str | None = None) -> str:
    """The text of README.md, with the header that the Hub reads.

    Args:
        model: The network with its notes.
        checksum: ``weights_sha256`` of its weights.
        source: What ``create`` takes to load it, such as ``"hf://user/repo"``; by default a folder to be named.
        curves: Whether ``curves.png`` lies beside it.
        license: The license of the weights, as the Hub spells it: ``"apache-2.0"``.
    """
    spec, notes = model.spec, model.notes
    entry = get_entry(spec.name) if is_model(spec.name) else None
    report = count_image(model, spec.input, spec.name)
    image = "x".join(map(str, spec.input))
    about = (entry.function.__doc__ or "").strip().splitlines()[:1] if entry else []
    if entry and entry.spec() != spec:
        about.append(f"Its rows, classes or images are other than those of `cnnzoo.create({spec.name!r})`; see below.")
    parts = [
        _header(model, license),
        f"# {spec.name}",
        *about,
        "\n".join(
            (
                "| | |",
                "| --- | --- |",
                f"| images | {image} |",
                f"| classes | {spec.num_classes} |",
                f"| parameters | {report.params.total:,} |",
                f"| multiply-adds | {report.macs:,} |",
                *(f"| {what} | {said} |" for what, said in _results(model)),
                f"| SHA-256 of the weights | `{checksum}` |",
            )
        ),
        *(["![Loss and accuracy, epoch by epoch](curves.png)"] if curves else []),
        "## Use",
        _usage(source),
        "## Images",
        _images(model),
        "## Where the weights come from",
        _origin(notes.get("provenance")),
        "## Layers",
        report.to_markdown(),
        *(_sources(entry) if entry else ()),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _usage(source: str) -> str:
    place = source or "path/to/this/folder"
    return f"""```python
import cnnzoo

model = cnnzoo.load("{place}")
print(cnnzoo.predict(model, "image.png"))
model = cnnzoo.create("{place}", num_classes=5)  # for classes of your own: a new last layer
```

The file is plain safetensors; `safetensors.torch.load_file` reads it without cnnzoo."""


def _header(model: CNN, license: str | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    trained = _trained(model.notes.get("provenance"))
    data = trained.get("data")
    named = isinstance(data, str) and ":" not in data  # a folder of someone's is no data set of the Hub
    results = []
    if named and isinstance(trained.get("test_acc"), float):
        results = [
            EvalResult(
                task_type="image-classification",
                dataset_type=str(data),
                dataset_name=str(data),
                dataset_split="test",
                metric_type="accuracy",
                metric_value=trained["test_acc"],
            )
        ]
    told = ModelCardData(
        library_name="cnnzoo",
        pipeline_tag="image-classification",
        license=license,
        datasets=[str(data)] if named else None,
        tags=["cnnzoo", "image-classification", model.spec.name],
        model_name=model.spec.name,
        eval_results=results or None,
    )
    return f"---\n{told.to_yaml()}\n---"


def _trained(provenance: Any) -> dict[str, Any]:
    """What is said of a training run, if the weights are just as it left them."""
    return provenance if isinstance(provenance, dict) and provenance.get("kind") == "trained" else {}


def _results(model: CNN) -> Iterator[tuple[str, str]]:
    trained = _trained(model.notes.get("provenance"))
    config = trained.get("config")
    seed = config.get("seed") if isinstance(config, dict) else None
    for key, what in (("test_acc", "test accuracy"), ("train_acc", "training accuracy")):
        if isinstance(value := trained.get(key), float):
            yield what, f"{value:.4f} ({trained.get('data')}, one run, seed {seed})"


def _images(model: CNN) -> str:
    channels, height, width = model.spec.input
    mean, std = model.notes.get("mean"), model.notes.get("std")
    kind = {1: "Gray", 3: "RGB"}.get(channels, f"{channels}-channel")
    how = {"crop": "their middle, seven eighths of it, scaled to", "pad": "on black of", None: "scaled to"}
    scaled = f"{kind} images, {how.get(model.notes.get('crop_mode'), how[None])} {height}x{width} px, values in [0, 1]"
    if crop := model.notes.get("crop_pct"):
        scaled += f"; their middle, {crop:.1%} of the shorter side, is what the network sees"
    norm = f"; then less the mean {mean}, divided by {std}." if mean and std else "; no mean was saved to take away."
    classes = model.notes.get("label_names")
    named = f"\n\nClasses: {', '.join(map(str, classes))}." if classes else ""
    return f"{scaled}{norm} `cnnzoo.transforms(model)` does it.{named}"


def _origin(provenance: Any) -> str:
    if not isinstance(provenance, dict):
        return "Not said."
    kind = provenance.get("kind")
    if kind == "random":
        return "Initial weights: the network is not trained."
    if kind == "trained":
        config = json.dumps(provenance.get("config"))
        before = provenance.get("from")
        began = f"\n\nThe run began with other weights. {_origin(before)}" if before else ""
        return (
            f"Trained with cnnzoo on {provenance.get('data')} (SHA-256 of images and labels "
            f"`{provenance.get('data_sha256')}`), {provenance.get('steps')} steps, with this config:\n\n"
            f"```json\n{config}\n```{began}"
        )
    if kind == "adapted":
        return f"Adapted ({provenance.get('how')}). Before that: {_origin(provenance.get('from'))}"
    return "; ".join(f"{key}: {value}" for key, value in provenance.items())


def _sources(entry: Entry) -> Iterator[str]:
    sources = dict.fromkeys(figure.source for figure in entry.published)
    if sources:
        yield "## Citation"
        yield "Cite what the network comes from:\n\n" + "\n".join(f"- {source}" for source in sources)
    if entry.deviations:
        yield "## Where it departs from its source"
        rows = (f"| {d.blocks} | {d.source} | {d.ours} | {d.reason} |" for d in entry.deviations)
        yield "\n".join(("| where | source | here | why |", "| --- | --- | --- | --- |", *rows))
