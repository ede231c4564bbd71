"""Memory and computation of convolutions and dense layers. Exercises of the textbook's chapter on AlexNet.

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
    parser.add_argument("model", nargs="?", default="alexnet")
    parser.add_argument("--batch", type=int, default=128, help="batch size")
    parser.add_argument("--picture", default="memory_and_compute.png", help="file for the picture of all layers")
    args = parser.parse_args()
    one = cnnzoo.count(args.model)
    report = cnnzoo.count(args.model, (args.batch, *one.input_size[1:]))

    sums = {group: dict.fromkeys(COLUMNS, 0) for group in (*KINDS.values(), "all others")}
    for kind, layers in report.by("kind").items():
        for column in COLUMNS:
            sums[KINDS.get(kind, "all others")][column] += layers[column]
    rows = [
        (
            group,
            *(f"{human(size)}B" for size in (4 * total["params"], total["saved_bytes"], total["moved_bytes"])),
            *(human(total[column]) for column in ("macs", "backward_macs")),
            f"{2 * total['macs'] / max(total['moved_bytes'], 1):.1f}",  # 0 bytes if there are no such layers
        )
        for group, total in sums.items()
    ]
    headers = ("", "weights", "saved", "moved", "MACs", "backward MACs", "FLOPs per byte")
    weights = f"{human(4 * report.params.total)}B"
    notes = ["saved: activations saved for backward; moved: bytes read and written in the forward pass."]
    for column, what, total in (("params", "parameters", report.params.total), ("macs", "multiply-adds", report.macs)):
        largest = max(sums, key=lambda group: sums[group][column])
        notes.append(f"{what}: {largest} have {100 * sums[largest][column] / total:.1f} %.")
    even = 4 * report.params.total / one.saved_bytes
    notes += [
        f"A training step stores weights, gradients, momentum and activations: 3 x {weights} + "
        f"{human(report.saved_bytes)}B.",
        f"Activations grow with the batch size: at {even:.0f} images they need as much memory as the weights.",
    ]
    print(Table(f"{report.name}, a batch of {args.batch}, float32", headers, rows, notes=notes).text())
    one.plot(args.picture)


if __name__ == "__main__":
    main()
