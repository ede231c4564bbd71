"""A network pushed to the Hugging Face Hub and loaded from it: one commit, a checksum, bit-identical scores.

    hf auth login                                   # or set HF_TOKEN; the token needs write access
    python examples/push_and_pull.py USER/REPO      # a private repository without --public
    python examples/push_and_pull.py USER/REPO --weights runs/alexnet --tag v2

HF_ENDPOINT (or endpoint= in Python) selects another Hub.
"""

from __future__ import annotations

import argparse
import warnings

import torch

import cnnzoo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", help="user/repo")
    parser.add_argument("--weights", help="a file or a folder (default: the LeNet that ships)")
    parser.add_argument("--tag", default="v1")
    parser.add_argument("--public", action="store_true", help="make a new repository public")
    args = parser.parse_args()
    model = cnnzoo.load(args.weights) if args.weights else cnnzoo.create("lenet", pretrained=True)

    commit = cnnzoo.push(args.weights or model, args.repo, tag=args.tag, private=not args.public)
    print(f"pushed {args.repo}, commit {commit}, tag {args.tag}\n")

    folder = cnnzoo.pull(args.repo, revision=args.tag)
    for file in sorted(folder.iterdir()):
        print(f"{file.stat().st_size:12,} bytes  {file.name}")
    card = (folder / "README.md").read_text().split("---\n", 2)[2]  # without its front matter
    print(f"\nBeginning of its model card:\n\n{card.partition('## ')[0].strip()}\n")

    loaded = cnnzoo.load(f"hf://{args.repo}@{args.tag}")
    images = torch.randn(8, *model.spec.input)
    same = torch.equal(model.eval()(images), loaded.eval()(images))
    print(f"bit-identical scores: {same}; source: {loaded.metadata.provenance['source']}")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cnnzoo.create(f"hf://{args.repo}@{args.tag}", num_classes=5, seed=0)
    print("adapted to five classes:", *(warning.message for warning in caught))


if __name__ == "__main__":
    main()
