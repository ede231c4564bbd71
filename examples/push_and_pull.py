"""A network on the Hub and back: pushed as one commit, pulled with its checksum compared, the same scores to the bit.

    hf auth login                                   # or set HF_TOKEN; it must be allowed to write
    python examples/push_and_pull.py USER/REPO      # a private repository, unless --public
    python examples/push_and_pull.py USER/REPO --weights runs/alexnet --tag v2

A Hub of your own is meant by HF_ENDPOINT (or endpoint= in Python).
"""

from __future__ import annotations

import argparse
import warnings

import torch

import cnnzoo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", help="user/repo")
    parser.add_argument("--weights", help="a file or a folder; by default the LeNet that ships with cnnzoo")
    parser.add_argument("--tag", default="v1")
    parser.add_argument("--public", action="store_true", help="whether all may see a repository that is made")
    args = parser.parse_args()
    model = cnnzoo.load(args.weights) if args.weights else cnnzoo.create("lenet", pretrained=True)

    commit = cnnzoo.push(args.weights or model, args.repo, tag=args.tag, private=not args.public)
    print(f"pushed {args.repo}, commit {commit}, tag {args.tag}\n")

    folder = cnnzoo.pull(args.repo, revision=args.tag)
    for file in sorted(folder.iterdir()):
        print(f"{file.stat().st_size:12,} bytes  {file.name}")
    card = (folder / "README.md").read_text().split("---\n", 2)[2]  # what follows the header
    print(f"\nIts card begins:\n\n{card.partition('## ')[0].strip()}\n")

    again = cnnzoo.load(f"hf://{args.repo}@{args.tag}")
    images = torch.randn(8, *model.spec.input)
    same = torch.equal(model.eval()(images), again.eval()(images))
    print(f"the same scores, bit by bit: {same}; it came from {again.notes['source']}")

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        cnnzoo.create(f"hf://{args.repo}@{args.tag}", num_classes=5, seed=0)
    print("for five classes of your own:", *(warning.message for warning in said))


if __name__ == "__main__":
    main()
