"""A trained network as an ONNX file, run without torch by onnxruntime, and checked on every test image.

    pip install "cnnzoo[onnx]"
    python examples/export_onnx.py                       # the LeNet that ships with cnnzoo
    python examples/export_onnx.py --weights runs/alexnet --data fashion_mnist --out alexnet.onnx

The file takes any number of images, as cnnzoo.transforms(model) makes them; what it needs to know is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy
import torch
from onnxruntime import InferenceSession

import cnnzoo
from cnnzoo.data import prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="a file, a folder, hf://user/repo; by default the LeNet that ships")
    parser.add_argument("--data", default="fashion_mnist_sample", help="a data set of cnnzoo")
    parser.add_argument("--out", type=Path, default=Path("runs/lenet.onnx"))
    args = parser.parse_args()
    model = (cnnzoo.load(args.weights) if args.weights else cnnzoo.create("lenet", pretrained=True)).eval()
    data = cnnzoo.load_data(args.data)
    file = cnnzoo.export(model, args.out, overwrite=True)

    # from here on, torch is only there to compare with
    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (images,), (scores,) = session.get_inputs(), session.get_outputs()
    print(f"{file}: {file.stat().st_size:,} bytes, {images.name} {images.shape} -> {scores.name} {scores.shape}")
    look = cnnzoo.transforms(model)
    print(f"images: {look.size[0]}x{look.size[1]} px, less {look.mean}, divided by {look.std}")

    x = prepare(data.test.images, look.size, look.mean, look.std, look.crop_mode)
    theirs = numpy.concatenate([session.run(None, {images.name: part.numpy()})[0] for part in x.split(300)])
    with torch.no_grad():
        ours = torch.cat([model(part) for part in x.split(300)]).numpy()
    labels = data.test.labels.numpy()
    for name, given in (("torch", ours), ("onnxruntime", theirs)):
        print(f"{name:12}{(given.argmax(1) == labels).mean():7.2%} of {len(labels):,} test images right")
    print(f"same class for {(ours.argmax(1) == theirs.argmax(1)).mean():.2%}, scores up to {abs(ours).max():.1f}")
    print(f"largest difference of a score: {abs(ours - theirs).max():.1e}")


if __name__ == "__main__":
    main()
