"""A page on which an image is dropped, and its most probable classes appear: `pip install gradio`.

    python examples/serve_gradio.py runs/lenet              # then open the address that it prints
    python examples/serve_gradio.py hf://user/repo

Images are prepared as in training.
"""

from __future__ import annotations

import argparse

import gradio

import cnnzoo


def make_page(model: str) -> gradio.Interface:
    network = cnnzoo.load(model)

    def predict(path: str) -> dict[str, float]:
        try:
            return dict(cnnzoo.predict(network, path).top())
        except cnnzoo.CnnzooError as error:
            raise gradio.Error(str(error)) from None

    inputs = gradio.Image(type="filepath")  # a file, so that it is decoded as files were in training
    return gradio.Interface(predict, inputs, gradio.Label(num_top_classes=5), title=f"cnnzoo: {model}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run folder, a weights file or hf://user/repo")
    args = parser.parse_args()
    make_page(args.model).launch()
