"""Export to ONNX: a trained network runs in onnxruntime, and is compared with PyTorch on every test image.

    pip install "cnnzoo[onnx]"
    python examples/export_onnx.py                       # the LeNet that ships with cnnzoo
    python examples/export_onnx.py --weights runs/alexnet --data fashion_mnist --out alexnet.onnx

The file accepts any batch size. Its inputs are images prepared as by cnnzoo.transforms(model); the script prints how.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy
import torch
from onnxruntime import InferenceSession

import cnnzoo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="a file, a folder or hf://user/repo (default: the LeNet that ships)")
    parser.add_argument("--data", default="fashion_mnist_sample", help="name of a data set")
    parser.add_argument("--out", type=Path, default=Path("runs/lenet.onnx"))
    args = parser.parse_args()
    model = (cnnzoo.load(args.weights) if args.weights else cnnzoo.create("lenet", pretrained=True)).eval()
    data = cnnzoo.load_data(args.data)
    file = cnnzoo.export(model, args.out, overwrite=True)

    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (images,), (scores,) = session.get_inputs(), session.get_outputs()
    print(f"{file}: {file.stat().st_size:,} bytes, {images.name} {images.shape} -> {scores.name} {scores.shape}")
    transform = cnnzoo.transforms(model)
    print(f"images: {transform}")

    x = transform.apply(data.test.images)
    onnx_scores = numpy.concatenate([session.run(None, {images.name: batch.numpy()})[0] for batch in x.split(300)])
    with torch.no_grad():
        torch_scores = torch.cat([model(batch) for batch in x.split(300)]).numpy()
    labels, onnx_classes, torch_classes = data.test.labels.numpy(), onnx_scores.argmax(1), torch_scores.argmax(1)
    for name, classes in (("torch", torch_classes), ("onnxruntime", onnx_classes)):
        print(f"{name:12}{(classes == labels).mean():7.2%} of {len(labels):,} test images correct")
    print(f"same class for {(torch_classes == onnx_classes).mean():.2%}, scores up to {abs(torch_scores).max():.1f}")
    print(f"largest difference of a score: {abs(torch_scores - onnx_scores).max():.1e}")


if __name__ == "__main__":
    main()
