"""Training loops of other libraries: a cnnzoo network in Accelerate, Lightning Fabric and Lightning's Trainer.

    pip install accelerate lightning
    python examples/accelerate_and_lightning.py             # all of them, after a plain PyTorch loop
    python examples/accelerate_and_lightning.py torch fabric

A network of cnnzoo is a plain nn.Module. All loops get the same network, batches and optimizer, and end with the same
weights up to rounding. The script sets label names, preprocessing and provenance in model.metadata before it saves the
network, so that cnnzoo can evaluate the file and predict with it. Everything runs on the CPU; omit cpu=True,
accelerator= and devices= to use the devices of the machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import cnnzoo


def train_torch(model, optimizer, loader, epochs):
    for images, labels in (batch for _ in range(epochs) for batch in loader):
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()


def train_accelerate(model, optimizer, loader, epochs):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for images, labels in (batch for _ in range(epochs) for batch in loader):
        optimizer.zero_grad()
        accelerator.backward(cross_entropy(model(images), labels))
        optimizer.step()


def train_fabric(model, optimizer, loader, epochs):
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    model, optimizer = fabric.setup(model, optimizer)
    loader = fabric.setup_dataloaders(loader)
    for images, labels in (batch for _ in range(epochs) for batch in loader):
        optimizer.zero_grad()
        fabric.backward(cross_entropy(model(images), labels))
        optimizer.step()


def train_lightning(model, optimizer, loader, epochs):
    from lightning import LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, _):
            return cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return optimizer

    no_files = {"logger": False, "enable_checkpointing": False}
    Trainer(accelerator="cpu", devices=1, max_epochs=epochs, **no_files).fit(Module(), loader)


LOOPS = {"torch": train_torch, "accelerate": train_accelerate, "fabric": train_fabric, "lightning": train_lightning}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loops", nargs="*", default=list(LOOPS), metavar="LOOP", help=", ".join(LOOPS))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/loops"))
    args = parser.parse_args()
    data = cnnzoo.load_data("fashion_mnist_sample")
    preprocessing = cnnzoo.Preprocessing((28, 28), data.mean, data.std)
    samples = TensorDataset(preprocessing.apply(data.train.images), data.train.labels)
    weights: dict[str, torch.Tensor] = {}
    lines = [f"{'':14}{'test accuracy':>14}{'largest difference of a weight':>38}"]
    for name in args.loops:
        model = cnnzoo.create("lenet", activation="relu", pooling="max", seed=0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        loader = DataLoader(samples, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0))
        LOOPS[name](model, optimizer, loader, args.epochs)  # trains in place: wrappers share the parameters
        provenance = {"kind": "elsewhere", "loop": name, "data": data.name, "epochs": args.epochs}
        model.metadata = cnnzoo.Metadata(data.classes, preprocessing, provenance)
        file = cnnzoo.save(model, args.out / f"{name}.safetensors", overwrite=True)

        loaded = cnnzoo.load(file)
        weights[name] = torch.nn.utils.parameters_to_vector(loaded.parameters()).detach()
        difference = (weights[name] - weights[args.loops[0]]).abs().max()
        lines.append(f"{name:14}{cnnzoo.evaluate(loaded, data).top1:14.3f}{difference:38.1e}")
    print(*lines, sep="\n")  # after the output of the loops


if __name__ == "__main__":
    main()
