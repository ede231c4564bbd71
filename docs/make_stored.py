"""Writes the counts of registered networks that ship with cnnzoo; run it after a change of a network or the counter.

python docs/make_counts.py
"""

from __future__ import annotations

import torch

import cnnzoo
from cnnzoo import measure
from cnnzoo.quantities import compute_figures
from cnnzoo.stored_counts import STORED_FILE, key_of, write_counts


def main() -> None:
    """Counts every registered network, and writes the file."""
    reports = []
    for name in cnnzoo.list_models():
        spec = cnnzoo.get_spec(name)
        with torch.device("meta"):
            model = cnnzoo.CNN(spec)
        reports.append((key_of(spec), measure.count(model, (1, *spec.input), name=name)))
    write_counts(STORED_FILE, compute_figures(), reports)
    print(f"{STORED_FILE}: {len(reports)} networks, {STORED_FILE.stat().st_size / 1e3:,.0f} kB")


if __name__ == "__main__":
    main()
