"""Compares the computed memory of a training step with the peak that torch's CPU allocator measures in one.

python tests/benchmarks/training_memory.py                     # AlexNet, VGG-16, ResNet-50, DenseNet-121
python tests/benchmarks/training_memory.py mobilenet_v2:4:96   # torchvision's NAME:BATCH_SIZE:IMAGE_SIZE
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import cnnzoo

NETWORKS = ("alexnet:4:224", "vgg16:4:224", "resnet50:4:224", "densenet121:4:224")
OPTIMIZERS = ("sgd", "momentum", "adamw")


def make_optimizer(name: str, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if name == "adamw":
        return torch.optim.AdamW(trainable, lr=1e-4, fused=True)
    return torch.optim.SGD(trainable, lr=1e-4, momentum=0.9 if name == "momentum" else 0, fused=True)


def measure_training_peak(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, optimizer_name: str, precision: str = "fp32"
) -> int:
    """Returns the bytes that the allocator holds at the peak of the second step, when the optimizer has its state."""
    optimizer = make_optimizer(optimizer_name, model.parameters())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    step()
    optimizer.zero_grad(set_to_none=True)
    state = [x for values in optimizer.state.values() for x in values.values() if isinstance(x, torch.Tensor)]
    existing = [*model.parameters(), *model.buffers(), *state, images]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return sum(x.numel() * x.element_size() for x in existing) + peak


def compare(
    model: nn.Module, batch_size: int, size: tuple[int, int, int], optimizer: str, precision: str = "fp32"
) -> tuple[int, int]:
    """Returns the computed and the measured bytes of a training step; the count has another batch size."""
    model.train()
    report = cnnzoo.count(model, (batch_size + 1, *size))
    computed = report.training_memory(optimizer, batch_size=batch_size, precision=precision).total
    images, labels = torch.rand(batch_size, *size), torch.zeros(batch_size, dtype=torch.long)
    return computed, measure_training_peak(model, images, labels, optimizer, precision)


def main() -> None:
    import torchvision

    warnings.simplefilter("ignore")
    print("| network | optimizer | computed MB | measured MB | difference |\n| --- | --- | ---: | ---: | ---: |")
    for argument in sys.argv[1:] or NETWORKS:
        name, batch_size, size = argument.split(":")
        model = getattr(torchvision.models, name)()
        for optimizer in OPTIMIZERS:
            computed, measured = compare(model, int(batch_size), (3, int(size), int(size)), optimizer)
            difference = 100 * (computed / measured - 1)
            print(f"| {name} | {optimizer} | {computed / 1e6:,.1f} | {measured / 1e6:,.1f} | {difference:+.1f} % |")


if __name__ == "__main__":
    main()
