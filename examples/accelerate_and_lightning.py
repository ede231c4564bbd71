"""A network of the zoo in the training loops of others: Accelerate, Lightning Fabric, Lightning's Trainer, and cnnzoo's.

    pip install accelerate lightning
    python examples/accelerate_and_lightning.py                 # all four
    python examples/accelerate_and_lightning.py fabric

All get the same network, the same batches and the same optimizer, and leave the same weights, to rounding. The network
is a plain nn.Module; notes of what its images look like make its file as useful as one that cnnzoo's trainer leaves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import cnnzoo
from cnnzoo.data import normalised


def by_accelerate(model, optimizer, loader, epochs):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)  # without it, the devices that are there
    wrapped, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            accelerator.backward(cross_entropy(wrapped(images), labels))
            optimizer.step()
    return accelerator.unwrap_model(wrapped)


def by_fabric(model, optimizer, loader, epochs):
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    wrapped, optimizer = fabric.setup(model, optimizer)
    loader = fabric.setup_dataloaders(loader)
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            fabric.backward(cross_entropy(wrapped(images), labels))
            optimizer.step()
    return model


def by_lightning(model, optimizer, loader, epochs):
    from lightning import LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, _):
            images, labels = batch
            return cross_entropy(self.model(images), labels)

        def configure_optimizers(self):
            return optimizer

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(accelerator="cpu", devices=1, max_epochs=epochs, enable_model_summary=False, **quiet).fit(Module(), loader)
    return model


def by_cnnzoo(model, optimizer, loader, epochs):
    images, labels = loader.dataset.tensors
    data = cnnzoo.StreamData(
        "batches of a DataLoader", loader, [(images[:100], labels[:100])], model.notes["label_names"]
    )
    group = optimizer.param_groups[0]
    config = cnnzoo.TrainConfig(
        epochs=epochs, lr=group["lr"], momentum=group["momentum"], precision="fp32", device="cpu"
    )
    return cnnzoo.Trainer(model, data, config, show=False).fit().model


LOOPS = {"cnnzoo": by_cnnzoo, "accelerate": by_accelerate, "fabric": by_fabric, "lightning": by_lightning}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loops", nargs="*", default=list(LOOPS), metavar="LOOP", help=", ".join(LOOPS))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/loops"))
    args = parser.parse_args()
    data = cnnzoo.load_data("fashion_mnist_sample")
    samples = TensorDataset(normalised(data.train.images, data.mean, data.std), data.train.labels)
    first = None
    print(f"{'':14}{'test accuracy':>14}{'largest weight apart from the first':>38}")
    for name in args.loops:
        model = cnnzoo.create("lenet", activation="relu", pooling="max", seed=0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        loader = DataLoader(samples, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0))
        model.notes |= {"label_names": list(data.classes), "mean": list(data.mean), "std": list(data.std)}
        trained = LOOPS[name](model, optimizer, loader, args.epochs)
        file = cnnzoo.save(trained, args.out / f"{name}.safetensors", overwrite=True)

        again = cnnzoo.load(file)  # the file alone says the network, the classes, what its images look like
        weights = torch.nn.utils.parameters_to_vector(again.parameters()).detach()
        first = weights if first is None else first
        print(f"{name:14}{cnnzoo.evaluate(again, data).top1:14.3f}{(weights - first).abs().max():38.1e}", flush=True)


if __name__ == "__main__":
    main()
