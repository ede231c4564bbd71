"""Which dominate, convolutions or dense layers: in memory, and in work? The exercises of the chapter on AlexNet.

python examples/memory_and_compute.py
python examples/memory_and_compute.py vgg16 --batch 32 --picture vgg16.png
"""

from __future__ import annotations

import argparse

import cnnzoo
from cnnzoo.measure.tables import Table, human

KINDS = {"Conv2d": "convolutions", "Linear": "dense layers"}
COLUMNS = ("params", "saved_bytes", "moved_bytes", "macs", "backward_macs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", nargs="?", default="alexnet")
    parser.add_argument("--batch", type=int, default=128, help="images at a time")
    parser.add_argument("--picture", default="memory_and_compute.png", help="every layer of it")
    options = parser.parse_args()
    one = cnnzoo.count(options.net)
    report = cnnzoo.count(options.net, (options.batch, *one.input_size[1:]))

    sums = {what: dict.fromkeys(COLUMNS, 0) for what in (*KINDS.values(), "all others")}
    for kind, found in report.by("kind").items():
        for column in COLUMNS:
            sums[KINDS.get(kind, "all others")][column] += found[column]
    rows = [
        (
            what,
            *(f"{human(size)}B" for size in (4 * of["params"], of["saved_bytes"], of["moved_bytes"])),
            *(human(of[column]) for column in ("macs", "backward_macs")),
            f"{2 * of['macs'] / max(of['moved_bytes'], 1):.1f}",  # a net may have no layers of a kind
        )
        for what, of in sums.items()
    ]
    headers = ("", "weights", "kept", "moved", "MACs", "backward MACs", "FLOP per byte")
    weights = f"{human(4 * report.params.total)}B"
    notes = ["kept: activations for the backward; moved: what the operators of a forward read and write."]
    for column, what, whole in (("params", "parameters", report.params.total), ("macs", "multiply-adds", report.macs)):
        most = max(sums, key=lambda kind: sums[kind][column])
        notes.append(f"{what}: {most} have {100 * sums[most][column] / whole:.1f} %.")
    notes += [
        f"A training step holds weights, gradients, momentum and activations: 3 x {weights} + "
        f"{human(report.saved_bytes)}B.",
        f"Weights stay and activations grow with the batch: at {4 * report.params.total / one.saved_bytes:.0f} images "
        "they are even.",
    ]
    print(Table(f"{report.name}, a batch of {options.batch}, float32", headers, rows, notes=notes).text())
    one.plot(options.picture)


if __name__ == "__main__":
    main()
