"""Fine-tuning from saved weights on a folder of images: what the weights are worth where there are few images.

    python examples/finetune_folder.py                  # seconds: the script makes a folder of its own
    python examples/finetune_folder.py photos --weights hf://user/repo --image-size 224 --init kaiming_normal

The folder holds a subfolder of images for each class. Three networks learn them: one from scratch, one whose features
stay as they were saved, one whose features follow slowly. The folder that the script makes holds PNGs of the bundled
sample, sorted into kinds that the weights (the LeNet that ships) were not trained to tell apart, ten of each.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from torchvision.transforms.functional import to_pil_image

import cnnzoo

KINDS = ("tops", "trousers", "tops", "dresses", "tops", "shoes", "tops", "shoes", "bags", "shoes")  # of each label
WAYS = {
    "features as saved": {"freeze": ["features.*"]},
    "features at a tenth of the rate": {"lr_multipliers": {"features.*": 0.1}},
}


def made_folder(folder: Path, images: int = 10) -> Path:
    data = cnnzoo.load_data("fashion_mnist_sample")
    for part, split, most in (("train", data.train, images), ("test", data.test, 100)):
        for kind in set(KINDS):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            chosen = [i for i, label in enumerate(split.labels.tolist()) if KINDS[label] == kind][:most]
            for i in chosen:
                to_pil_image(split.images[i]).save(folder / part / kind / f"{i:04}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a subfolder of images for each class")
    parser.add_argument("--weights", help="a file, a folder, hf://user/repo; by default the LeNet that ships")
    parser.add_argument("--image-size", type=int, help="px, where the images differ in size")
    parser.add_argument("--init", default="xavier_uniform:4", help="initial weights of the network from scratch")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("runs/finetune"))
    args = parser.parse_args()
    folder = args.folder or made_folder(args.out / "images")
    data = cnnzoo.load_data(f"folder:{folder}", image_size=args.image_size)
    shipped = cnnzoo.create("lenet", pretrained=True)
    weights = args.weights or cnnzoo.save(shipped, args.out / "lenet.safetensors", overwrite=True)
    print(f"{len(data.train)} images to learn from, {len(data.test)} to be tested on: {', '.join(data.classes)}")

    # no init= where weights are to be kept: it would draw them anew
    config = cnnzoo.recipe("quick").replace(epochs=args.epochs, batch_size=10, lr=3e-3)
    for way, changes in {"from scratch": {"init": args.init}, **WAYS}.items():
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model = cnnzoo.create(weights, num_classes=len(data.classes), in_channels=data.shape[0], seed=0)
        if way == "from scratch":
            print(*(warning.message for warning in said), f"\n{'':34}test accuracy", sep="\n")
        out = args.out / way.replace(" ", "-")
        run = cnnzoo.Trainer(model, data, config.replace(**changes), out=out, overwrite=True, show=False).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        print(f"{way:34}{run.metrics['test_acc']:13.3f}", flush=True)
    if picture := min(folder.rglob("*.png"), default=None):
        print(f"\n{picture}\n{cnnzoo.predict(run.path, picture)}")


if __name__ == "__main__":
    main()
