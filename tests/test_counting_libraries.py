"""Counts of all networks of torchvision and of two per family of timm, and the table of results.

python tests/test_counting_libraries.py           # writes the table anew; the real forwards take an hour
python tests/test_counting_libraries.py 0/3       # adds the first of three parts, without what the table has
"""

from __future__ import annotations

import csv
import functools
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import bytes_of_hooks
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import cnnzoo
from cnnzoo.measure.report import SUMMED

TABLE = Path(__file__).parent / "golden" / "library_counts.csv"
COLUMNS = ("name", "input", "parameters", "macs", "saved_bytes", "saved_by_hooks")
# The CPU keeps more than the result: col2im returns a part of a larger buffer, oneDNN's LSTM saves a workspace.
EXCEPTIONS = {"timm:volo": 0.03, "timm:sequencer": 0.4}


def names() -> Iterator[str]:
    import torchvision

    yield from (f"torchvision:{name}" for name in torchvision.models.list_models())
    try:
        import timm
    except ImportError:
        return
    for module in timm.list_modules():
        family = timm.list_models(module=module)
        yield from (f"timm:{name}" for name in dict.fromkeys((family[0], family[len(family) // 2])))


def create(name: str) -> tuple[nn.Module, Any]:
    """Returns a network in eval mode, and its input on the CPU."""
    library, _, name = name.partition(":")
    if library == "timm":
        import timm

        model = timm.create_model(name)
        return model.eval(), torch.rand(1, *model.default_cfg.get("input_size", (3, 224, 224)), device="cpu")
    import torchvision

    options = {"weights": None, "weights_backbone": None} if _group(name) in ("detection", "segmentation") else {}
    model = torchvision.models.get_model(name, **options).eval()
    size = {"inception_v3": 299, "quantized_inception_v3": 299, "vit_h_14": 224}.get(name, 224)
    match _group(name):
        case "detection":
            return model, ([torch.rand(3, 128, 128, device="cpu")],)
        case "segmentation":
            return model, torch.rand(1, 3, 128, 128, device="cpu")
        case "optical_flow":
            return model, (torch.rand(1, 3, 128, 128, device="cpu"),) * 2
        case "video":
            side = 224 if name.startswith(("mvit", "s3d", "swin")) else 112
            return model, torch.rand(1, 3, 16, side, side, device="cpu")
        case _:
            return model, torch.rand(1, 3, size, size, device="cpu")


@functools.cache
def _group(name: str) -> str:
    import torchvision

    return torchvision.models.get_model_builder(name).__module__.split(".")[2]


def measure(name: str) -> dict[str, Any]:
    """Counts a network and checks what follows from torch: parameters, MACs, sums of the lines."""
    is_detection = name.startswith("torchvision:") and _group(name.partition(":")[2]) == "detection"
    is_regnet = name.startswith("torchvision:regnet")
    # detectors choose boxes by their values, RegNets their widths
    with torch.device("cpu" if is_detection or is_regnet else "meta"):
        torch.manual_seed(0)
        model, inputs = create(name)
    model = model.to("meta") if is_regnet else model
    on_device = inputs if is_detection else torch.utils._pytree.tree_map(lambda x: x.to("meta"), inputs)
    arguments = on_device if isinstance(on_device, tuple) else (on_device,)
    report = cnnzoo.count(model, inputs=on_device, meta=not is_detection)
    with FlopCounterMode(display=False) as counter:
        model(*arguments)
    assert 2 * report.macs == counter.get_total_flops(), name
    assert report.params.total == sum(p.numel() for p in model.parameters()), name
    totals = {column: sum(getattr(layer, column) for layer in report.layers) for column in SUMMED}
    assert totals["params"] == report.params.total and totals["param_bytes"] == report.params.bytes, name
    assert not report.unknown_ops or name.startswith("timm:"), (name, report.unknown_ops)
    return {
        "name": name,
        "input": report.input_text,
        "parameters": report.params.total,
        "macs": report.macs,
        "saved_bytes": report.saved_bytes,
    }


def read_table() -> dict[str, dict[str, str]]:
    with TABLE.open() as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_every_network_of(library: str) -> None:
    """Networks that are newer than the table are checked as well, but for the numbers of the table."""
    pytest.importorskip(library)
    rows = read_table()
    for name in names():
        if name.startswith(library):
            result = measure(name)
            row = rows.get(name, {})
            assert {key: row.get(key) for key in result if row} == {key: str(result[key]) for key in result if row}


def test_table_of_results() -> None:
    """Saved bytes are those of hooks on a real run; and one small network is counted anew."""
    rows = read_table()
    for name, row in rows.items():
        if row["saved_by_hooks"]:
            error = int(row["saved_bytes"]) / int(row["saved_by_hooks"]) - 1
            limit = next((limit for key, limit in EXCEPTIONS.items() if name.startswith(key)), 0.003)
            assert abs(error) <= limit, (name, error)
    name = "torchvision:squeezenet1_1"
    assert {key: str(value) for key, value in measure(name).items()}.items() <= rows[name].items()


def main() -> None:
    warnings.simplefilter("ignore")
    part, parts = map(int, sys.argv[1].split("/")) if len(sys.argv) > 1 else (0, 1)
    rows: dict[str, dict[str, Any]] = dict(read_table()) if TABLE.exists() else {}
    for name in sorted(names())[part::parts]:
        if parts > 1 and name in rows:
            continue
        try:
            row = measure(name)
            row["saved_by_hooks"] = ""
            if row["parameters"] < 120_000_000:
                torch.manual_seed(0)
                model, inputs = create(name)
                row["saved_by_hooks"] = bytes_of_hooks(model, *(inputs if isinstance(inputs, tuple) else (inputs,)))
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            continue
        rows[name] = row
        if row["saved_by_hooks"] and abs(error := row["saved_bytes"] / row["saved_by_hooks"] - 1) > 1e-6:
            print(f"{name}: saved {error:+.4%}", flush=True)
        with TABLE.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows[name] for name in sorted(rows))


if __name__ == "__main__":
    main()
