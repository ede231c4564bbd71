"""The commands that write and publish networks in other forms."""

from __future__ import annotations

from typing import Any

import click

from cnnzoo.cli.completion import FILE, MODEL, examples
from cnnzoo.cli.options import hub_option, knobs_option, replace_option


@click.command(
    epilog=examples("cnnzoo export lenet --onnx lenet.onnx", "cnnzoo export runs/photos --torch-export photos.pt2")
)
@click.argument("model", type=MODEL)
@click.option("--onnx", type=FILE, metavar="FILE", help="Write ONNX for any batch size: lenet.onnx.")
@click.option("--torch-export", type=FILE, metavar="FILE", help="Write a torch.export program: lenet.pt2.")
@replace_option
def export(model: str, onnx: str | None, torch_export: str | None, overwrite: bool) -> None:
    """Export the network MODEL (as for evaluate), and check the scores of the exported file."""
    from cnnzoo import api

    if not onnx and not torch_export:
        raise click.UsageError("give --onnx FILE.onnx, --torch-export FILE.pt2, or both")
    for option, path, suffix in (("--onnx", onnx, ".onnx"), ("--torch-export", torch_export, ".pt2")):
        if path and not path.endswith(suffix):
            raise click.UsageError(f"{option} expects a file name that ends in {suffix}, got {path!r}")
    for path in filter(None, (onnx, torch_export)):
        click.echo(api.export(model, path, overwrite=overwrite))


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
@click.option("--revision", help="The branch to commit to; default: main.")
@click.option("--message", help="Commit message.")
@click.option("--private/--public", default=None, help="Visibility of a new repository.")
@click.option("--replace-card", is_flag=True, help="Replace an existing README.md.")
@click.option("--license", metavar="NAME", help="License of the weights, for the model card: apache-2.0.")
@hub_option
def push(model: str, repo: str, replace_card: bool, **options: Any) -> None:
    """Publish the network in MODEL (a file or a run folder) as REPO (user/name) on the Hub."""
    from cnnzoo import weights

    commit = weights.push(model, repo, card="replace" if replace_card else "keep", **options)
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
