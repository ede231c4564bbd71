"""A network of the zoo in training loops of others: Accelerate, Lightning Fabric and Lightning's Trainer.

    pip install accelerate lightning
    python examples/accelerate_and_lightning.py             # all of them, after a loop of plain torch
    python examples/accelerate_and_lightning.py torch fabric

All get the same network, batches and optimizer, and leave the same weights, to rounding: a network of the zoo is a
plain nn.Module. With notes of what its images look like, its file is as good as one that cnnzoo's trainer leaves.
They run on the CPU here; leave out cpu=True, accelerator= and devices= for the devices that are there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import cnnzoo


def by_torch(model, optimizer, loader, epochs):
    for images, labels in (batch for _ in range(epochs) for batch in loader):
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()


def by_accelerate(model, optimizer, loader, epochs):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for images, labels in (batch for _ in range(epochs) for batch in loader):
        optimizer.zero_grad()
        accelerator.backward(cross_entropy(model(images), labels))
        optimizer.step()


def by_fabric(model, optimizer, loader, epochs):
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    model, optimizer = fabric.setup(model, optimizer)
    loader = fabric.setup_dataloaders(loader)
    for images, labels in (batch for _ in range(epochs) for batch in loader):
        optimizer.zero_grad()
        fabric.backward(cross_entropy(model(images), labels))
        optimizer.step()


def by_lightning(model, optimizer, loader, epochs):
    from lightning import LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, _):
            return cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return optimizer

    leaves_nothing = {"logger": False, "enable_checkpointing": False}
    Trainer(accelerator="cpu", devices=1, max_epochs=epochs, **leaves_nothing).fit(Module(), loader)


LOOPS = {"torch": by_torch, "accelerate": by_accelerate, "fabric": by_fabric, "lightning": by_lightning}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loops", nargs="*", default=list(LOOPS), metavar="LOOP", help=", ".join(LOOPS))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/loops"))
    args = parser.parse_args()
    data = cnnzoo.load_data("fashion_mnist_sample")
    samples = TensorDataset(normalize(data.train.images, data.mean, data.std), data.train.labels)
    found: dict[str, torch.Tensor] = {}
    lines = [f"{'':14}{'test accuracy':>14}{'largest weight apart from the first':>38}"]
    for name in args.loops:
        model = cnnzoo.create("lenet", activation="relu", pooling="max", seed=0)
        model.notes |= {"label_names": list(data.classes), "mean": list(data.mean), "std": list(data.std)}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        loader = DataLoader(samples, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0))
        LOOPS[name](model, optimizer, loader, args.epochs)  # in place, whatever it is wrapped in
        file = cnnzoo.save(model, args.out / f"{name}.safetensors", overwrite=True)

        again = cnnzoo.load(file)  # the file alone says the network, its classes, its images
        found[name] = torch.nn.utils.parameters_to_vector(again.parameters()).detach()
        apart = (found[name] - found[args.loops[0]]).abs().max()
        lines.append(f"{name:14}{cnnzoo.evaluate(again, data).top1:14.3f}{apart:38.1e}")
    print(*lines, sep="\n")  # after what the others print


if __name__ == "__main__":
    main()
