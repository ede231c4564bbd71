"""Generates parts of the documentation from the library: an mkdocs hook for the site, and a command for README.md.

The hook adds a page per lineage and per subpackage to the site (``mkdocs build --strict -f .mkdocs.yml``), and replaces
each line ``<!-- generated: WHAT -->`` of a page by the result of ``GENERATORS["WHAT"]``. README.md is not
built: its table is stored in the file, which this command updates:

    python docs/build.py            # exits with 1 if README.md is out of date
    python docs/build.py --write    # updates it
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from sitegen import commands, diagrams, lineages, packages, readme, records, reference, registry, resuming, scripts

GENERATORS: dict[str, Callable[[], str]] = {
    "models": registry.overview,
    "twins": registry.twins,
    "records": records.all_records,
    "commands": commands.all_commands,
    "examples": scripts.examples,
    "training loops": scripts.training_loops,
    "benchmarks": scripts.benchmarks,
    "changelog": readme.changelog,
    "packages": packages.all_packages,
    "resuming": resuming.table,
    "resuming code": resuming.code,
    "reference": reference.top_level,
}


def generate(markdown: str) -> str:
    """Returns a page with every mark replaced by its generated text."""
    return re.sub(r"^<!-- generated: ([\w ]+) -->$", lambda mark: GENERATORS[mark[1]](), markdown, flags=re.MULTILINE)


class Page(NamedTuple):
    """A page that has no file in docs/."""

    section: str  # of the navigation
    title: str
    address: str
    text: Callable[[], str]


def pages() -> Iterator[Page]:
    """Yields the pages that have no file in docs/."""
    for lineage in registry.lineages():
        text = partial(lineages.page, lineage)
        yield Page("Models", registry.title(lineage), f"models/{lineage}.md", text)
    for module in reference.MODULES:
        yield Page("Python", f"cnnzoo.{module}", f"reference/{module}.md", partial(reference.page, module))


# --- the mkdocs hook ---


def on_config(config: Any) -> None:
    """Adds the pages without a file to the navigation."""

    def extend(items: list[Any]) -> None:
        for item in items:
            for section, children in item.items() if isinstance(item, dict) else ():
                if isinstance(children, list):
                    children += [{page.title: page.address} for page in pages() if page.section == section]
                    extend(children)

    extend(config.nav)


def on_files(files: Any, config: Any) -> None:
    """Adds the pages without a file, and their pictures."""
    from mkdocs.structure.files import File

    for page in pages():
        files.append(File.generated(config, page.address, content=page.text()))
    for name in filter(diagrams.has_diagram, registry.all_models()):
        files.append(File.generated(config, f"models/{name}.svg", content=diagrams.svg(name)))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Returns a page with its marks replaced."""
    return generate(markdown)


# --- the command line ---


def main() -> None:
    """Checks whether README.md is up to date; with ``--write``, updates it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="update README.md")
    arguments = parser.parse_args()
    text = readme.updated()
    if readme.README.read_text() == text:
        print("README.md is up to date")
    elif arguments.write:
        readme.README.write_text(text)
        print("README.md updated")
    else:
        sys.exit("README.md is out of date: run python docs/build.py --write")


if __name__ == "__main__":
    main()
