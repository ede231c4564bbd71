"""Writes what the library itself can say: the lineages, the table of them in the README, the records of training.

python docs/make_pages.py            # says which files would change, and exits with 1 if any would
python docs/make_pages.py --write
"""

from __future__ import annotations

import inspect
import json
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import cnnzoo
from cnnzoo.registry import get_entry

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs" / "records"

# the order in which lineages and their nets are told, from what came first; the others follow by name
ORDER = {"lenet": ("lenet5_1998", "lenet", "lenet_caffe"), "alexnet": ("alexnet_2012", "caffenet", "alexnet_owt")}


def lineages() -> dict[str, list[str]]:
    """Name of a module of cnnzoo.models -> the models that it declares."""
    found: dict[str, list[str]] = {lineage: list(names) for lineage, names in ORDER.items()}
    for name in cnnzoo.list_models():
        names = found.setdefault(get_entry(name).function.__module__.rpartition(".")[2], [])
        if name not in names:
            names.append(name)
    return found


def table(told: dict[str, list[str]]) -> str:
    """The models of some lineages: input, counts, and what each is."""
    lines = ["| model | images | parameters | multiply-adds | |", "| --- | --- | ---: | ---: | --- |"]
    for names in told.values():
        for name in names:
            report = cnnzoo.count(name)
            images = "x".join(map(str, report.input_size[1:]))
            about = inspect.getdoc(get_entry(name).function).splitlines()[0]
            lines.append(f"| `{name}` | {images} | {report.params.total:,} | {report.macs:,} | {about} |")
    return "\n".join(lines)


def lineages_page() -> str:
    """docs/lineages.md: the table, then each lineage with its differences, figures and deviations."""
    parts = [
        "# The lineages",
        "",
        "Several networks go by the name of LeNet, and of AlexNet. Here is every network of cnnzoo: how those differ",
        "from their relatives, what the sources of each print with our exact figures beside it, and where it departs",
        "from them. The page is made by the library (`docs/make_pages.py`); `cnnzoo diff` and `cnnzoo verify` say it.",
        "",
        table(lineages()),
    ]
    for lineage, names in lineages().items():
        about = (import_module(f"cnnzoo.models.{lineage}").__doc__ or "").splitlines()[0]
        parts += ["", f"## {about}"]
        for old, new in pairwise(names if lineage in ORDER else ()):
            parts += ["", cnnzoo.diff(old, new).to_markdown().strip()]
        for name in names:
            found = cnnzoo.verify(name)
            if found.tables():
                parts += ["", f"### `{name}`", "", found.to_markdown().strip()]
    return "\n".join(parts) + "\n"


def within(page: str, part: str, made: str) -> str:
    """A page with one part of it, which stands between two marks, made anew."""
    begin, end = f"<!-- {part}: made by docs/make_pages.py -->", f"<!-- end of {part} -->"
    before, rest = (ROOT / page).read_text().split(begin)
    return f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}"


def readme() -> str:
    """README.md with its table of lineages."""
    told = {lineage: names for lineage, names in lineages().items() if lineage in ORDER}
    return within("README.md", "lineages", table(told))


def records() -> str:
    """What each record says, a row each, and its command below."""
    lines = [
        "| record | net | test accuracy | seeds | train | loss | images/s, steps alone | wall clock |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    commands = []
    for file in sorted(RECORDS.glob("*.json")):
        told = json.loads(file.read_text())
        metrics = [run["metrics"] for run in told["runs"]]
        mean = {key: fmean(m[key] for m in metrics) for key in metrics[0] if isinstance(metrics[0][key], float)}
        half = f" +- {told['test_acc_95'][1] - told['test_acc']:.4f}" if "test_acc_95" in told else ""
        lines.append(
            f"| [{file.stem}](records/{file.name}) | `{told['architecture']}` | {told['test_acc']:.4f}{half} | "
            f"{len(metrics)} | {mean['train_acc']:.4f} | {mean['loss']:.3f} | {mean['examples_per_sec']:,.0f} | "
            f"{mean['wall_examples_per_sec']:,.0f} |"
        )
        machine = told["began"]["machine"]
        where = f"{machine['cores']} cores of {machine['cpu']}, {', '.join(machine['gpus']) or machine['bf16']}"
        commands += [f"- {file.stem}, on {where}, torch {machine['torch']}:", f"  `{told['began']['command']}`"]
    return "\n".join([*lines, "", *commands])


def training() -> str:
    """docs/training.md with its records."""
    return within("docs/training.md", "records", records())


PAGES = {"docs/lineages.md": lineages_page, "README.md": readme, "docs/training.md": training}


def main() -> None:
    """Compares, and writes where told."""
    changed = []
    for name, make in PAGES.items():
        file, made = ROOT / name, make()
        if not file.exists() or file.read_text() != made:
            changed.append(name)
            if "--write" in sys.argv:
                file.write_text(made)
    print(*changed or ["nothing to change"], sep="\n")
    if changed and "--write" not in sys.argv:
        sys.exit(1)


if __name__ == "__main__":
    main()
