"""The model card: README.md of a model's folder and of its page on the Hub, written from the model alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cnnzoo.measure.counter import count_image
from cnnzoo.measure.tables import escape_markdown, shape_text
from cnnzoo.metadata import Metadata
from cnnzoo.network import CNN
from cnnzoo.registry import Entry, get_entry, is_model
from cnnzoo.text import printable

_MAX_ORIGINS = 20  # of weights that were trained, adapted and trained again


def make_card(model: CNN, checksum: str, *, source: str = "", curves: bool = False, license: str | None = None) -> str:
    """Returns the text of README.md, with the header that the Hub reads.

    Args:
        model: The network with its metadata.
        checksum: ``weights_sha256`` of its weights.
        source: The argument of ``load`` that loads it, such as ``"hf://user/repo"``; by default a placeholder path.
        curves: Whether ``curves.png`` is in the same folder.
        license: The license of the weights, as the Hub spells it: ``"apache-2.0"``.
    """
    spec, metadata = model.spec, model.metadata
    entry = get_entry(spec.name) if is_model(spec.name) else None
    report = count_image(model, spec.input, spec.name)
    summary = (entry.function.__doc__ or "").strip().splitlines()[:1] if entry else []
    if entry and entry.spec() != spec:
        summary.append(f"Its blocks, classes or image size differ from `cnnzoo.create({spec.name!r})`; see below.")
    parts = [
        _header(model, license),
        f"# {_text(spec.name)}",
        *summary,
        "\n".join(
            (
                "| | |",
                "| --- | --- |",
                f"| images | {shape_text(spec.input)} |",
                f"| classes | {spec.num_classes} |",
                f"| parameters | {report.params.total:,} |",
                f"| multiply-adds | {report.macs:,} |",
                *(f"| {name} | {value} |" for name, value in _results(model)),
                f"| SHA-256 of the weights | `{checksum}` |",
            )
        ),
        *(["![Loss and accuracy per epoch](curves.png)"] if curves else []),
        "## Usage",
        _usage(source),
        "## Preprocessing",
        _preprocessing(metadata),
        "## Provenance",
        _provenance(metadata.provenance),
        "## Layers",
        report.to_markdown(),
        *(_sources(entry) if entry else ()),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _usage(source: str) -> str:
    path = source or "path/to/this/folder"
    return f"""```python
import cnnzoo

model = cnnzoo.load("{path}")
print(cnnzoo.predict(model, "image.png"))
model = cnnzoo.create("{path}", num_classes=5)  # for your own classes, with a new last layer
```

The weights are plain safetensors: `safetensors.torch.load_file` reads them without cnnzoo."""


def _header(model: CNN, license: str | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    training = _training(model.metadata.provenance)
    data = training.get("data")
    is_dataset = isinstance(data, str) and ":" not in data  # "folder:shoes" is not a data set of the Hub
    results = []
    if is_dataset and isinstance(training.get("test_acc"), float):
        results = [
            EvalResult(
                task_type="image-classification",
                dataset_type=str(data),
                dataset_name=str(data),
                dataset_split="test",
                metric_type="accuracy",
                metric_value=training["test_acc"],
            )
        ]
    card_data = ModelCardData(
        library_name="cnnzoo",
        pipeline_tag="image-classification",
        license=license,
        datasets=[str(data)] if is_dataset else None,
        tags=["cnnzoo", "image-classification", model.spec.name],
        model_name=model.spec.name,
        eval_results=results or None,
    )
    return f"---\n{card_data.to_yaml()}\n---"


def _training(provenance: Any) -> dict[str, Any]:
    """Returns the provenance if the weights are those at the end of a training run, else an empty dict."""
    return provenance if isinstance(provenance, dict) and provenance.get("kind") == "trained" else {}


def _results(model: CNN) -> Iterator[tuple[str, str]]:
    """Yields (name, value) of each accuracy."""
    training = _training(model.metadata.provenance)
    config = training.get("config")
    seed = config.get("seed") if isinstance(config, dict) else None
    for key, name in (("test_acc", "test accuracy"), ("train_acc", "training accuracy")):
        if isinstance(value := training.get(key), float):
            yield name, f"{value:.4f} ({_text(training.get('data'))}, one run, seed {_text(seed)})"


def _preprocessing(metadata: Metadata) -> str:
    names = f"\n\nClasses: {', '.join(map(_text, metadata.label_names))}." if metadata.label_names else ""
    if metadata.preprocessing is None:
        return f"Unknown: no mean and standard deviation of the images are stored.{names}"
    return f"{metadata.preprocessing}. `cnnzoo.transforms(model)` does this.{names}"


def _text(value: object) -> str:
    """Returns a value of the metadata, which anyone may have written, as text in Markdown."""
    return escape_markdown(printable(str(value)))


def _provenance(provenance: Any, depth: int = 0) -> str:
    if not isinstance(provenance, dict) or depth > _MAX_ORIGINS:
        return "Unknown."
    kind = provenance.get("kind")
    if kind == "random":
        return "Random initial weights: the network is not trained."
    if kind == "trained":
        config = json.dumps(provenance.get("config"))
        initial = provenance.get("from")
        initial_text = f"\n\nInitial weights: {_provenance(initial, depth + 1)}" if initial else ""
        return (
            f"Trained with cnnzoo on {_text(provenance.get('data'))} (SHA-256 of images and labels "
            f"{_text(provenance.get('data_sha256'))}), {_text(provenance.get('steps'))} steps, with this config:\n\n"
            f"```json\n{config}\n```{initial_text}"
        )
    if kind == "adapted":
        before = _provenance(provenance.get("from"), depth + 1)
        return f"Adapted ({_text(provenance.get('how'))}). Before that: {before}"
    if kind == "changed":
        return (
            "The weights have changed since their provenance was recorded, for example in a training loop outside of "
            f"cnnzoo. Before that: {_provenance(provenance.get('from'), depth + 1)}"
        )
    if kind == "state_dict" and "from" in provenance:
        return (
            "Some of the weights were loaded from a state dict; how those were trained is not known. The others: "
            f"{_provenance(provenance['from'])}"
        )
    if kind == "state_dict":
        return "Loaded from a state dict; how these weights were trained is not known."
    return "; ".join(f"{_text(key)}: {_text(value)}" for key, value in provenance.items())


def _sources(entry: Entry) -> Iterator[str]:
    sources = dict.fromkeys(figure.source for figure in entry.published)
    if sources:
        yield "## Citation"
        yield "Please cite the source of the network:\n\n" + "\n".join(f"- {source}" for source in sources)
    if entry.deviations:
        yield "## Deviations from the source"
        rows = (f"| {d.blocks} | {d.source} | {d.ours} | {d.reason} |" for d in entry.deviations)
        yield "\n".join(("| where | source | here | reason |", "| --- | --- | --- | --- |", *rows))
