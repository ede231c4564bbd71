"""Draws the pictures of README.md and of the site that need no training; the same code gives the same bytes.

Run it after a change of a network, a count, a record or the code that draws:

python docs/make_pictures.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cnnzoo
from cnnzoo.measure.drawing_files import save_drawing
from cnnzoo.train.records import draw_record
from sitegen import ROOT, records
from sitegen.first_picture import first_picture

# file in docs/pictures -> what draws it
PICTURES: dict[str, Callable[[Path], object]] = {
    "alexnet-vs-lenet.svg": lambda path: save_drawing(first_picture(), path),
    "alexnet.svg": lambda path: cnnzoo.draw("alexnet", path, width=7.5),
    "alexnet-vs-lenet-lenet.svg": lambda path: cnnzoo.draw("lenet", path, width=7.5),
    "alexnet-vs-lenet-layers.svg": lambda path: cnnzoo.compare("alexnet", "lenet").plot(path),
    "resnet50.svg": lambda path: cnnzoo.draw("resnet50", path, detail="stage", width=5.5),
    "timeline.svg": lambda path: cnnzoo.timeline().plot(path),
}


def main() -> None:
    """Draws all pictures, and the learning curves of the records."""
    for name, draw in PICTURES.items():
        draw(ROOT / "docs" / "pictures" / name)
        print(f"docs/pictures/{name}")
    for file in records.files():
        draw_record(json.loads(file.read_text()), file.with_suffix(""))
        print(f"docs/records/{file.stem}.png")


if __name__ == "__main__":
    main()
