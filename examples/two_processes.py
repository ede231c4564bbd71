"""Distributed training in two processes: the same weights as in one process, up to rounding.

    python examples/two_processes.py                                # runs everything, in seconds
    torchrun --nproc-per-node 2 examples/two_processes.py --out runs/two        # one of its runs

batch_size is the global batch size: each process gets its share of the same batches. The backend is gloo on CPUs and
NCCL on GPUs. On two machines add --nnodes 2 --rdzv-backend c10d --rdzv-endpoint HOST:29500.

The network uses tanh and average pooling. With ReLU or max pooling, which are not smooth, rounding differences grow
during training (also between accumulation_steps=1 and 2): the weights differ, the accuracy is as good.
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
    """Trains in one process; torchrun runs it in every process."""
    model = cnnzoo.create("lenet", activation="tanh", seed=seed)
    config = cnnzoo.TrainConfig(epochs=epochs, batch_size=64, lr=0.05, momentum=0.9, precision="fp32", seed=seed)
    data = cnnzoo.load_data("fashion_mnist_sample")
    run = cnnzoo.Trainer(model, data, config, out=out, overwrite=True, show=False).fit()
    if run.interrupted:
        raise KeyboardInterrupt


def weights(folder: Path) -> torch.Tensor:
    """Returns all weights of a run as one vector."""
    return torch.nn.utils.parameters_to_vector(cnnzoo.load(folder).parameters()).detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/processes"))
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    if "WORLD_SIZE" in os.environ:  # set by torchrun
        return train(args.out, args.epochs, seed=0)

    train(args.out / "one process", args.epochs, seed=0)
    train(args.out / "one process, another seed", args.epochs, seed=1)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    settings = ["--out", str(args.out / "two processes"), "--epochs", str(args.epochs)]
    subprocess.run([*torchrun, __file__, *settings], check=True)

    one = weights(args.out / "one process")
    print(f"{'':28}{'test accuracy':>14}{'largest difference of a weight':>38}")
    for name in ("one process", "two processes", "one process, another seed"):
        accuracy = cnnzoo.evaluate(args.out / name, cnnzoo.load_data("fashion_mnist_sample")).top1
        print(f"{name:28}{accuracy:14.3f}{(weights(args.out / name) - one).abs().max():38.1e}")


if __name__ == "__main__":
    main()
