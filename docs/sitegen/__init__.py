"""Generated parts of the documentation, one module per subject; docs/build.py puts them together."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository
