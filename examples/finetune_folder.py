"""Fine-tuning on a folder of few images: from scratch, with frozen features, with a lower rate for the features.

    python examples/finetune_folder.py                  # seconds, on a folder that the script writes
    python examples/finetune_folder.py photos --weights hf://user/repo --image-size 224 --init kaiming_normal

The folder has a subfolder of images per class. Without a folder, the script writes one: PNG files of the bundled
sample, ten per class, in five classes that the weights (the LeNet that ships) were not trained on.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from torchvision.transforms.functional import to_pil_image

import cnnzoo

CLASSES = ("tops", "trousers", "tops", "dresses", "tops", "shoes", "tops", "shoes", "bags", "shoes")  # for each label
METHODS = {
    "frozen features": {"freeze": ["features.*"]},
    "features at a tenth of the learning rate": {"lr_multipliers": {"features.*": 0.1}},
}


def write_folder(folder: Path) -> Path:
    """Writes images of the sample as PNG files, one subfolder per class; returns the folder."""
    data = cnnzoo.load_data("fashion_mnist_sample")
    for part, split, number in (("train", data.train, 10), ("test", data.test, 100)):
        for name in set(CLASSES):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            indices = [i for i, label in enumerate(split.labels.tolist()) if CLASSES[label] == name][:number]
            for i in indices:
                to_pil_image(split.images[i]).save(folder / part / name / f"{i:04}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder with a subfolder of images per class")
    parser.add_argument("--weights", help="a file, a folder or hf://user/repo (default: the LeNet that ships)")
    parser.add_argument("--image-size", type=int, help="px, if the images differ in size")
    parser.add_argument("--init", default="xavier_uniform:4", help="initial weights of the network from scratch")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("runs/finetune"))
    args = parser.parse_args()
    folder = args.folder or write_folder(args.out / "images")
    data = cnnzoo.load_data(f"folder:{folder}", image_size=args.image_size)
    shipped = cnnzoo.create("lenet", pretrained=True)
    weights = args.weights or cnnzoo.save(shipped, args.out / "lenet.safetensors", overwrite=True)
    print(f"{len(data.train)} training images, {len(data.test)} test images: {', '.join(data.classes)}")

    # init= only from scratch: it would replace the pretrained weights
    config = cnnzoo.recipe("quick").replace(epochs=args.epochs, batch_size=10, lr=3e-3)
    for method, changes in {"from scratch": {"init": args.init}, **METHODS}.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = cnnzoo.create(weights, num_classes=len(data.classes), in_channels=data.shape[0], seed=0)
        if method == "from scratch":
            print(*(warning.message for warning in caught), f"\n{'':42}test accuracy", sep="\n")
        out = args.out / method.replace(" ", "-")
        run = cnnzoo.Trainer(model, data, config.replace(**changes), out=out, overwrite=True, show=False).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        print(f"{method:42}{run.metrics['test_acc']:13.3f}", flush=True)
    if picture := min(folder.rglob("*.png"), default=None):
        print(f"\n{picture}\n{cnnzoo.predict(run.path, picture)}")


if __name__ == "__main__":
    main()
