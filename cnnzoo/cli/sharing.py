"""The commands that write and publish networks in other forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from cnnzoo.cli.completion import FILE, MODEL, examples
from cnnzoo.cli.options import add_data_options, hub_option, knobs_option, replace_option

_FORMATS = {  # option of export -> the suffixes of its file
    "--onnx": (".onnx",),
    "--torch-export": (".pt2",),
    "--executorch": (".pte",),
    "--source": (".py",),
    "--torchvision": (".pth", ".safetensors"),
    "--timm": (".pth", ".safetensors"),
    "--int8": (".onnx",),
}


def _file_option(name: str, help: str) -> Callable[[Any], Any]:
    return click.option(name, type=FILE, metavar="FILE", help=help)


@click.command(
    epilog=examples(
        "cnnzoo export runs/photos --onnx photos.onnx --source photos.py",
        "cnnzoo export runs/photos --int8 photos8.onnx --data folder:photos",
    )
)
@click.argument("model", type=MODEL)
@_file_option("--onnx", "Write ONNX for any batch size: lenet.onnx.")
@_file_option("--torch-export", "Write a torch.export program: lenet.pt2.")
@_file_option("--executorch", "Write an ExecuTorch program for one image at a time: lenet.pte.")
@_file_option("--source", "Write the network as plain PyTorch, without weights: lenet.py.")
@_file_option("--torchvision", "Write the state dict of torchvision's network: vgg11.pth.")
@_file_option("--timm", "Write the state dict of timm's network: vgg11.safetensors.")
@_file_option("--int8", "Write ONNX in int8, calibrated and evaluated on --data: lenet8.onnx.")
@click.option("--opset", type=int, help="Version of the operators of ONNX; default: the exporter's.")
@add_data_options(default=None, more_help=", for --int8")
@replace_option
def export(
    model: str, opset: int | None, data: str | None, data_options: dict[str, Any], overwrite: bool, **files: str | None
) -> None:
    """Export the network MODEL (as for evaluate), and check the scores of the exported file."""
    chosen = {option: path for option in _FORMATS if (path := files[option[2:].replace("-", "_")])}
    if not chosen:
        raise click.UsageError(f"give one or more of {', '.join(f'{option} FILE' for option in _FORMATS)}")
    for option, path in chosen.items():
        if not path.endswith(_FORMATS[option]):
            raise click.UsageError(
                f"{option} expects a file name that ends in {' or '.join(_FORMATS[option])}, got {path!r}"
            )
    if opset is not None and not {"--onnx", "--int8"} & set(chosen):
        raise click.UsageError("--opset is for --onnx and --int8")
    if ("--int8" in chosen) != (data is not None):
        raise click.UsageError("--int8 needs --data NAME, to calibrate and to evaluate with, and --data is for --int8")
    from cnnzoo import api
    from cnnzoo.data import load_data

    for option, path in chosen.items():
        if option == "--int8":
            assert data is not None
            loaded = load_data(data, **data_options)
            click.echo(f"{path}\n{api.quantize(model, path, loaded, opset=opset, overwrite=overwrite)}")
            continue
        library = option[2:] if option in ("--torchvision", "--timm") else None
        version = opset if option == "--onnx" else None
        click.echo(api.export(model, path, library=library, opset=version, overwrite=overwrite))


@click.command(
    "import",
    epilog=examples(
        "cnnzoo import alexnet-owt-7be5be79.pth --as alexnet_owt -o alexnet.safetensors",
        "cnnzoo import model.safetensors --as resnet18 -k num_classes=5 -o pets",
    ),
)
@click.argument("file", type=FILE)
@click.option(
    "--as", "name", type=MODEL, metavar="NAME", required=True, help="The network of the weights: alexnet_owt."
)
@click.option(
    "--out", "-o", type=FILE, metavar="PATH", required=True, help="Where to save: a file *.safetensors, or a folder."
)
@knobs_option
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def import_(file: str, name: str, out: str, knobs: tuple[tuple[str, Any], ...], overwrite: bool) -> None:
    """Save the weights in FILE, of torch.save or safetensors, as the network NAME that describes itself.

    The names of torchvision, timm and transformers are recognized.
    """
    from pathlib import Path

    from cnnzoo import api, weights

    model = api.create(name, pretrained=Path(file), **dict(knobs))
    path = weights.save(model, out, overwrite=overwrite)
    origin = next(iter(model.metadata.origins()), {})
    names = f" with the names of {origin['names']}" if "names" in origin else ""
    click.echo(
        f"{path}: {model.spec.name}, {model.num_classes} classes, {sum(p.numel() for p in model.parameters()):,} "
        f"parameters, from {file}{names}"
    )


@click.command(
    epilog=examples("cnnzoo push runs/photos ann/photos --private", "cnnzoo push lenet.safetensors ann/lenet")
)
@click.argument("model", type=MODEL)
@click.argument("repo")
@click.option("--tag", help="Tag of the commit, such as v1.")
@click.option("--revision", help="The branch to commit to, or refs/pr/3; default: main.")
@click.option("--create-pr", is_flag=True, help="Open a pull request with the commit.")
@click.option("--message", help="Commit message.")
@click.option("--private/--public", default=None, help="Visibility of a new repository; an old one must have it.")
@click.option("--replace-card", is_flag=True, help="Replace an existing README.md.")
@click.option("--license", metavar="NAME", help="License of the weights, for the model card: apache-2.0.")
@hub_option
def push(model: str, repo: str, replace_card: bool, **options: Any) -> None:
    """Publish the network in MODEL (a file or a run folder) as REPO (user/name) on the Hub."""
    from cnnzoo import weights

    commit = weights.push(model, repo, card="replace" if replace_card else "keep", **options)
    if commit.pull_request:
        click.echo(f"pull request {commit.pull_request}")
    click.echo(f"commit {commit}\ncnnzoo.create({f'hf://{repo}@{commit}'!r})")


@click.command(epilog=examples("cnnzoo pull ann/photos", "cnnzoo pull ann/photos --revision v1"))
@click.argument("repo")
@click.option("--revision", help="A branch, tag or commit; default: main.")
@click.option("--cache-dir", metavar="FOLDER", help="Folder for downloaded files; default: the Hub's cache.")
@hub_option
def pull(repo: str, **options: Any) -> None:
    """Download the model REPO (user/name) from the Hub, and print its folder."""
    from cnnzoo import weights

    click.echo(weights.pull(repo, **options))
