"""Training on two processes: the same network as on one, to rounding.

    python examples/two_processes.py                                # runs all of it, seconds
    torchrun --nproc-per-node 2 examples/two_processes.py --out runs/two        # what it starts

The batch size is that of all processes together, and each takes its share of the same batches. Gradients travel over
gloo on CPUs, over NCCL on GPUs; on two machines add --nnodes 2 --rdzv-backend c10d --rdzv-endpoint HOST:29500.

The net is a smooth one. ReLU and max pools have kinks: a rounding that falls on one grows from step to step, between
one process and two just as between one process and one with accumulation_steps=2. The accuracy is as good, the weights differ.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch

import cnnzoo


def train(out: Path, epochs: int, seed: int) -> None:
    """What every process does: the script is the same however many there are."""
    model = cnnzoo.create("lenet", activation="tanh", seed=seed)
    config = cnnzoo.TrainConfig(epochs=epochs, batch_size=64, lr=0.05, momentum=0.9, precision="fp32", seed=seed)
    data = cnnzoo.load_data("fashion_mnist_sample")
    run = cnnzoo.Trainer(model, data, config, out=out, overwrite=True, show=False).fit()
    if run.interrupted:
        raise KeyboardInterrupt


def weights(folder: Path) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(cnnzoo.load(folder).parameters()).detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/processes"))
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    if "WORLD_SIZE" in os.environ:  # torchrun started this process
        return train(args.out, args.epochs, seed=0)

    train(args.out / "one process", args.epochs, seed=0)
    train(args.out / "one process, another seed", args.epochs, seed=1)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    settings = ["--out", str(args.out / "two processes"), "--epochs", str(args.epochs)]
    subprocess.run([*torchrun, __file__, *settings], check=True)

    one = weights(args.out / "one process")
    print(f"{'':28}{'test accuracy':>14}{'largest weight apart from the first':>38}")
    for name in ("one process", "two processes", "one process, another seed"):
        found = cnnzoo.evaluate(args.out / name, cnnzoo.load_data("fashion_mnist_sample"))
        print(f"{name:28}{found.top1:14.3f}{(weights(args.out / name) - one).abs().max():38.1e}")


if __name__ == "__main__":
    main()
