"""Renders the page of one or several training runs: one HTML file without scripts or external files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cnnzoo.errors import FileError, InputError
from cnnzoo.files import atomic_write, exists
from cnnzoo.html_report.groups import RunGroup, group_runs
from cnnzoo.html_report.run_reader import BuildModel, RunReader, find_runs
from cnnzoo.html_report.sections.architecture import build_architectures
from cnnzoo.html_report.sections.confusion import build_confusion
from cnnzoo.html_report.sections.counts import DiffModules, build_counts
from cnnzoo.html_report.sections.curves import build_curves
from cnnzoo.html_report.sections.filters import build_filters
from cnnzoo.html_report.sections.mistakes import FindMistakes, build_mistakes
from cnnzoo.html_report.sections.provenance import build_provenance
from cnnzoo.html_report.sections.results import build_results
from cnnzoo.html_report.sections.settings import build_settings
from cnnzoo.html_report.text import join_names

if TYPE_CHECKING:
    from jinja2 import Template

REPORT_FILE = "report.html"
TEMPLATE_FILE = "template.html"


def report(
    folders: Sequence[Path],
    out: Path | None = None,
    *,
    build: BuildModel,
    diff: DiffModules,
    mistakes: FindMistakes | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes the page of some training runs.

    Args:
        folders: Run folders, or folders that hold run folders.
        out: The file; by default ``report.html``, in the folder if there is one, else in the current folder.
        build: Builds the module from the description in config.json.
        diff: Compares two modules; returns None if it cannot.
        mistakes: Finds the mistakes of the network in a run folder; None shows none.
        overwrite: Whether an existing file is replaced.

    Returns:
        The file.

    Raises:
        InputError: If no folder is given.
        FileError: If a folder holds no run, or the file exists or cannot be written.
    """
    if not folders:
        raise InputError("report needs at least one run folder, such as runs/lenet")
    target = out or (folders[0] / REPORT_FILE if len(folders) == 1 else Path(REPORT_FILE))
    paths = {path.resolve(): path for folder in folders for path in find_runs(folder)}
    if os.path.isdir(target):
        raise FileError(f"{target} is a folder; name a file, such as {target / REPORT_FILE}")
    if exists(target) and not overwrite:
        raise FileError(f"{target} exists already; name another file (--out) or pass overwrite=True (--overwrite)")
    html = render_page([RunReader(path, build) for path in paths.values()], diff, mistakes)
    with atomic_write(target) as file:
        file.write(html.encode(errors="backslashreplace"))  # paths need not be text
    return target


def render_page(runs: Sequence[RunReader], diff: DiffModules, mistakes: FindMistakes | None = None) -> str:
    """Returns the page as HTML."""
    groups = group_runs(runs)
    sections = {
        "results": build_results(groups),
        "curves": build_curves(groups),
        "confusion": build_confusion(groups),
        "mistakes": build_mistakes(groups, mistakes),
        "architectures": build_architectures(groups),
        "filters": build_filters(groups),
        "counts": build_counts(groups, diff),
        "settings": build_settings(groups),
        "provenance": build_provenance(groups),
    }
    # after the sections, which read files while they are built
    problems = dict.fromkeys(problem for run in runs for problem in run.problems)
    return _template().render(title=_title(groups), problems=problems, **sections)


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cnnzoo.html_report", ""),
        autoescape=True,  # run folders are untrusted
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE_FILE)


def _title(groups: Sequence[RunGroup]) -> str:
    networks = list(dict.fromkeys(group.first.name for group in groups))
    data = list(dict.fromkeys(group.first.data_name for group in groups))
    n_runs = sum(len(group.runs) for group in groups)
    if len(networks) <= 3 and len(data) <= 2:
        title = f"{join_names(networks)} on {join_names(data)}"
    else:
        title = f"{len(networks)} networks"
    return f"{title}, {n_runs} runs" if n_runs > len(networks) or n_runs > 3 else title
