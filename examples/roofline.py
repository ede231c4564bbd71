"""Memory bandwidth and computation: the layers of AlexNet in the roofline model of this machine.

    python examples/roofline.py
    python examples/roofline.py vgg11 --batch 16 --device auto

A layer with few operations per byte moved is limited by memory bandwidth. A dense layer is an example: it reads each
weight for one multiply-add per image. A larger batch uses each weight more often.
"""

from __future__ import annotations

import argparse
import time

import torch
from matplotlib.figure import Figure

import cnnzoo
from cnnzoo.device import resolve_device
from cnnzoo.measure.figures import COLORS, FAINT, INK, despine, save_figure
from cnnzoo.measure.tables import Table, human


def bandwidth(device: torch.device, seconds: float) -> float:
    """Returns bytes read and written per second, by the fastest of repeated copies of 256 MB."""
    a = torch.zeros(64_000_000, device=device)
    b, times, end = torch.ones_like(a), [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        begin = time.perf_counter()
        b.copy_(a)[0].item()  # reading a value synchronizes with a GPU
        times.append(time.perf_counter() - begin)
    return 2 * a.numel() * a.element_size() / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="alexnet")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each measurement")
    parser.add_argument("--picture", default="roofline.png")
    args = parser.parse_args()

    batches = (1, args.batch)
    timings = []
    for n in batches:
        result = cnnzoo.bench(args.model, batch_size=n, device=args.device, seconds=args.seconds)
        print(result, end="\n\n")
        timings += result.timings
    peak, speed = max(t.ceiling for t in timings), bandwidth(resolve_device(args.device), args.seconds)
    layers: dict[str, list[float]] = {}  # label -> FLOPs per byte at each batch size
    for t in timings:
        for label, sums in cnnzoo.count(args.model, t.input_size).by("label").items():
            if sums["macs"]:
                layers.setdefault(label, []).append(2 * sums["macs"] / sums["moved_bytes"])
    rows = [
        (label, *(text for x in values for text in (f"{x:.1f}", f"{100 * min(1, x * speed / peak):.1f} % of peak")))
        for label, values in layers.items()
    ]
    limit = f"below {peak / speed:.1f} FLOP/B, memory bandwidth is the limit"
    note = f"peak {human(peak)}FLOP/s, memory {human(speed)}B/s: {limit}."
    headers = ("layer", *(text for n in batches for text in (f"FLOP/B, batch {n}", "at most")))
    print(Table(f"the layers of {args.model}, float32", headers, rows, notes=[note]).text())

    figure = Figure(figsize=(8, 4.8), layout="constrained", facecolor="white")
    axis = figure.subplots()
    left, right = 0.1, max(10 * peak / speed, 2 * max(map(max, layers.values())))
    axis.loglog([left, peak / speed, right], [left * speed, peak, peak], color=INK, linewidth=1.5)
    for i, t in enumerate(timings):
        groups: list[tuple[float, list[str]]] = []  # layers close to each other share an annotation
        for x, label in sorted((values[i], label) for label, values in layers.items()):
            if not groups or x > 1.4 * groups[-1][0]:
                groups.append((x, []))
            groups[-1][1].append(label)
        for x, labels in groups:
            axis.plot(x, min(peak, x * speed), "o", color=COLORS[i])
            position = {"xytext": (-6, 5), "ha": "right"} if i else {"xytext": (7, -11), "ha": "left"}
            axis.annotate(
                ", ".join(labels),
                (x, min(peak, x * speed)),
                textcoords="offset points",
                color=COLORS[i],
                fontsize=8,
                **position,
            )
        label = f"batch {batches[i]}: bounds of the layers (dots), measured network (star)"
        axis.plot(t.intensity, t.flops_per_sec, "*", color=COLORS[i], markersize=14, label=label)
    axis.set_xlabel("FLOPs per byte moved")
    axis.set_ylabel("FLOP/s")
    axis.set_title(f"{args.model} in the roofline model of this machine", fontsize=11, color=INK)
    despine(axis)
    axis.grid(True, color=FAINT, linewidth=0.6)
    axis.legend(frameon=False, fontsize=8.5, loc="lower right")
    save_figure(figure, args.picture)


if __name__ == "__main__":
    main()
