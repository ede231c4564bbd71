"""Push and pull with the real client, against a local Hub (tests/hub.py)."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from hub import READ_TOKEN, TOKEN, LocalHub

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.errors import FileError, HubError, InputError, WeightsError
from cnnzoo.files import read_json
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.serialization import weights_sha256
from cnnzoo.weights.repository import Repository

# the client calls its HTTP library in a deprecated way
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "ann/tiny-net"


@pytest.fixture(params=["lfs", "regular"])
def hub(request: pytest.FixtureRequest) -> Iterator[LocalHub]:
    with LocalHub(request.param) as server:
        yield server


@pytest.fixture
def one_hub() -> Iterator[LocalHub]:
    with LocalHub() as server:
        yield server


@pytest.fixture
def net(tiny_spec: cnnzoo.Spec) -> cnnzoo.CNN:
    model = cnnzoo.create(tiny_spec, seed=0)
    preprocessing = Preprocessing(model.spec.input[1:], mean=[0.5], std=[0.25])
    model.metadata = model.metadata.replace(label_names=["a", "b", "c"], preprocessing=preprocessing)
    return model


def is_same(a: cnnzoo.CNN, b: cnnzoo.CNN) -> bool:
    return weights_sha256(a.state_dict()) == weights_sha256(b.state_dict()) and a.spec == b.spec


def connect(hub: LocalHub, tmp_path: Path) -> tuple[Callable[..., Any], Callable[..., Path]]:
    push = partial(cnnzoo.push, token=TOKEN, endpoint=hub.url)
    pull = partial(cnnzoo.pull, token=TOKEN, endpoint=hub.url, cache_dir=tmp_path / "cache")
    return push, pull


def test_push_and_pull(hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, pull = connect(hub, tmp_path)
    first = push(net, REPO, tag="v1")
    folder = pull(REPO)
    assert folder.name == first and {p.name for p in folder.iterdir()} == {
        "README.md", "config.json", "model.safetensors",
    }  # fmt: skip
    assert is_same(cnnzoo.load(folder), net)
    assert hub.repos[REPO].messages[-1] == "tiny, by cnnzoo"
    again = push(net, REPO)  # no file has changed: no commit
    assert again == first and len(hub.repos[REPO].commits) == 2

    with torch.no_grad():
        net.classifier[0].weight.add_(1)
    second = push(torch.compile(net), REPO, message="one more")
    assert second != first and hub.repos[REPO].messages[-1] == "one more"
    options = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    assert is_same(cnnzoo.load(f"hf://{REPO}", **options), net)
    for old in (f"hf://{REPO}@v1", f"hf-hub:{REPO}@{first}"):
        loaded = cnnzoo.create(old, **options)
        assert not is_same(loaded, net) and loaded.metadata.provenance["source"] == f"hf://{REPO}@{first}"
    assert cnnzoo.pull(REPO, revision="v1", **options).name == first
    assert cnnzoo.count(f"local-dir:{folder}").params.total == cnnzoo.count(net).params.total


def test_a_cached_commit_needs_no_request(one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, pull = connect(one_hub, tmp_path)
    commit = push(net, REPO)
    folder = pull(REPO, revision=commit)
    one_hub.requests.clear()
    assert pull(f"hf://{REPO}@{commit}") == folder and one_hub.requests == []
    one_hub.stop()
    assert is_same(cnnzoo.load(f"hf://{REPO}@{commit}", endpoint=one_hub.url, cache_dir=tmp_path / "cache"), net)


def test_adapted_from_the_hub(one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, _ = connect(one_hub, tmp_path)
    commit = push(net, REPO)
    with pytest.warns(UserWarning, match="tiny: classifier.3 is new, for 5 classes instead of 3"):
        model = cnnzoo.create(
            f"hf://{REPO}", num_classes=5, seed=0, endpoint=one_hub.url, cache_dir=tmp_path
        )  # fmt: skip
    assert model.metadata.provenance == {
        "kind": "adapted",
        "how": "classifier.3 is new, for 5 classes instead of 3",
        "from": {"kind": "random", "source": f"hf://{REPO}@{commit}"},
    }
    assert torch.equal(model.features[0].weight, net.features[0].weight)
    assert model.metadata.preprocessing.mean == (0.5,) and model.metadata.label_names is None


def test_the_card(hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, _ = connect(hub, tmp_path)
    push(net, REPO, license="apache-2.0")
    text = hub.read(REPO, "README.md").decode()
    assert text.startswith("---\n") and "license: apache-2.0" in text and f'cnnzoo.load("hf://{REPO}")' in text
    checksum = weights_sha256(net.state_dict())
    assert f"`{checksum}`" in text and "Classes: a, b, c." in text
    hub.add(REPO, {"README.md": b"mine"})
    push(net, REPO)
    assert hub.read(REPO, "README.md") == b"mine"
    push(net, REPO, card="replace")
    assert hub.read(REPO, "README.md") != b"mine"
    with pytest.raises(InputError, match="card must be 'keep' or 'replace', not 'new'"):
        push(net, REPO, card="new")


def test_a_run_folder(hub: LocalHub, tiny_spec: cnnzoo.Spec, tiny_data: cnnzoo.ImageData, tmp_path: Path) -> None:
    push, pull = connect(hub, tmp_path)
    model = cnnzoo.create(tiny_spec, seed=0)
    run = cnnzoo.Trainer(model, tiny_data, cnnzoo.TrainConfig(epochs=2, seed=3), out=tmp_path / "run", show=False).fit()
    push(tmp_path / "run", REPO)
    text = hub.read(REPO, "README.md").decode()
    assert f"| test accuracy | {run.metrics['test_acc']:.4f} (tiny, one run, seed 3) |" in text
    assert "![Loss and accuracy per epoch](curves.png)" in text and '"lr": 0.01' in text
    from huggingface_hub import ModelCard

    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag, data.datasets) == ("cnnzoo", "image-classification", ["tiny"])
    (result,) = data.eval_results
    assert (result.dataset_split, result.metric_type, result.metric_value) == (
        "test", "accuracy", run.metrics["test_acc"],
    )  # fmt: skip
    folder = pull(REPO)
    assert {p.name for p in folder.iterdir()} >= {"train.json", "history.jsonl", "curves.png"}
    assert cnnzoo.load(folder).metadata == model.metadata
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "run" / "model.safetensors").read_bytes()
    (tmp_path / "run" / "README.md").write_text("my own words")
    push(tmp_path / "run", REPO, card="replace")
    assert hub.read(REPO, "README.md") == b"my own words"


def test_no_local_path_is_uploaded(
    one_hub: LocalHub, tiny_spec: cnnzoo.Spec, tiny_data: cnnzoo.ImageData, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    push, pull = connect(one_hub, tmp_path)
    data = dataclasses.replace(tiny_data, name=f"folder:{tmp_path}/shoes", options={"root": str(tmp_path / "sets")})
    out = tmp_path / "run"
    command = ["/opt/bin/cnnzoo", "train", "tiny", "--data", data.name, f"--out={out}", "--set", "epochs=1"]
    monkeypatch.setattr(sys, "argv", command)
    cnnzoo.Trainer(cnnzoo.create(tiny_spec), data, cnnzoo.TrainConfig(epochs=1), out=out, show=False).fit()
    push(out, REPO)
    folder = pull(REPO)
    info = read_json(folder / "train.json")
    assert info["data"]["options"] == {"root": "sets"}
    assert info["data"]["name"] == "folder:shoes" and info["data"]["sha256"] == data.sha256
    (session,) = info["sessions"]
    assert session["command"] == "cnnzoo train tiny --data folder:shoes --out=run --set epochs=1"
    assert info["config"] == read_json(out / "train.json")["config"]
    for file in folder.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file.name


def test_branches_and_tags(one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, pull = connect(one_hub, tmp_path)
    main = push(net, REPO, tag="v1")
    assert push(net, REPO, tag="v1") == main  # the same again
    with torch.no_grad():
        net.classifier[0].bias.add_(1)
    trial = push(net, REPO, revision="trial")
    assert pull(REPO).name == main and pull(REPO, revision="trial").name == trial
    with pytest.raises(HubError, match=rf"but tag 'v1' belongs to commit {main} already; choose another tag"):
        push(net, REPO, tag="v1")
    with pytest.raises(InputError, match=r"pass the part after the @ as tag='v2', or as revision= for a branch"):
        push(net, f"{REPO}@v2")
    with pytest.raises(HubError, match="has newer commits than parent_commit; pull it, compare, and push again"):
        push(cnnzoo.create(net.spec, seed=1), REPO, parent_commit=main)
    with pytest.raises(HubError, match=r"has no revision 'v9'; it has main, trial, v1, and commits by their hash"):
        pull(REPO, revision="v9")
    with pytest.raises(HubError, match=r"has no revision '0{40}'; it has main"):
        pull(f"{REPO}@{'0' * 40}")


def test_a_name_without_a_user(one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, pull = connect(one_hub, tmp_path)
    commit = push(net, "tiny-net")
    assert pull(REPO).name == commit


def test_private(hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, pull = connect(hub, tmp_path)
    commit = push(net, REPO, private=True)
    assert hub.repos[REPO].private
    for token in (False, READ_TOKEN):
        with pytest.raises(HubError, match=r"has no model ann/tiny-net, or it is private; check the spelling, and if"):
            pull(REPO, token=token)
    assert pull(REPO).name == commit
    with pytest.raises(HubError, match="denies access: .*; log in .*HF_TOKEN, or pass token=, of an account"):
        pull(REPO, token="hf_wrong", cache_dir=tmp_path / "other")
    with pytest.raises(HubError, match="has no model ann/tiny-net, or it is private"):  # also with a copy in the cache
        pull(REPO, token=False)


def test_visibility(one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    """That of a repository that exists is not changed silently."""
    push, _ = connect(one_hub, tmp_path)
    commit = push(net, REPO)
    other = cnnzoo.create(net.spec, seed=1)
    one_hub.requests.clear()
    with pytest.raises(
        HubError,
        match=rf"ann/tiny-net is public, and private=True was passed; nothing was uploaded. "
        rf"Change it at {one_hub.url}/ann/tiny-net/settings, or leave out private=",
    ):
        push(other, REPO, private=True, revision="trial")
    assert one_hub.requests == ["POST /api/repos/create", f"GET /api/models/{REPO}"]  # the first answers: it exists
    assert one_hub.repos[REPO].branches == {"main": commit} and not one_hub.repos[REPO].private
    assert push(net, REPO, private=False) == commit
    one_hub.repos[REPO].private = True
    with pytest.raises(HubError, match="is private, and private=False was passed"):
        push(other, REPO, private=False)


def test_pull_requests(hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, pull = connect(hub, tmp_path)
    main = push(net, REPO)
    other = cnnzoo.create(net.spec, seed=1)
    first = push(other, REPO, create_pr=True, token=READ_TOKEN)  # anybody may open one
    assert first.pull_request == "refs/pr/1" and main.pull_request is None
    assert pull(REPO).name == main and pull(REPO, revision="refs/pr/1").name == first
    assert is_same(cnnzoo.load(pull(f"hf://{REPO}@refs/pr/1")), other)
    third = cnnzoo.create(net.spec, seed=2)
    second = push(third, REPO, revision="refs/pr/1")
    assert pull(REPO, revision="refs/pr/1").name == second and {*hub.repos[REPO].branches} == {"main", "refs/pr/1"}
    assert not any("/branch/" in request for request in hub.requests)
    same = push(net, REPO, create_pr=True)
    assert (same, same.pull_request) == (main, None)  # nothing has changed
    assert push(third, REPO, create_pr=True).pull_request == "refs/pr/2"
    with pytest.raises(HubError, match="has no model ann/none, or it is private"):
        push(net, "ann/none", create_pr=True)
    with pytest.raises(
        HubError, match=r"ann/tiny-net has no revision 'refs/pr/9'; open a pull request with create_pr="
    ):
        push(other, REPO, revision="refs/pr/9")
    with pytest.raises(HubError, match="is public, and private=True was passed"):
        push(other, REPO, create_pr=True, private=True)
    for options, name in (
        ({"tag": "v1"}, "tag"),
        ({"revision": "trial"}, "revision"),
        ({"revision": "refs/pr/1"}, "r"),
    ):
        with pytest.raises(InputError, match=f"against the main branch, whose commit has no tag yet; leave out {name}"):
            push(net, REPO, create_pr=True, **options)


def test_gated(one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, pull = connect(one_hub, tmp_path)
    push(net, REPO)
    one_hub.repos[REPO].gated = True
    with pytest.raises(HubError, match=rf"is gated: request access at {one_hub.url}/ann/tiny-net, then log in"):
        pull(REPO, token=READ_TOKEN)
    assert pull(REPO)


def test_push_without_permission(one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, _ = connect(one_hub, tmp_path)
    push(net, REPO)
    for repo, token in ((REPO, READ_TOKEN), (REPO, False), ("bob/net", TOKEN)):
        with pytest.raises(HubError, match="denies access: .*; log in"):
            push(net, repo, token=token)
    assert len(one_hub.repos[REPO].commits) == 2


def test_the_server_is_down(hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, pull = connect(hub, tmp_path)
    old = push(net, REPO)
    pull(REPO)
    with torch.no_grad():
        net.classifier[0].bias.add_(1)
    new = push(net, REPO)
    hub.faults.add("down")
    with pytest.warns(
        UserWarning, match=rf"answers with status 500 .* in the cache is used, which may be outdated: commit {old}"
    ):
        assert pull(REPO).name == old
    hub.faults ^= {"down", "soon"}
    with pytest.warns(
        UserWarning, match=rf"of commit {new} could not be downloaded: .* in the cache is used, .*: commit {old}"
    ):
        assert pull(REPO).name == old
    with pytest.raises(
        HubError, match=r"is not in the cache, and .* answers with status 500 .*; try again later; or download"
    ):
        pull(REPO, cache_dir=tmp_path / "empty")
    with pytest.raises(HubError, match="answers with status 500"):
        push(net, REPO)


def test_the_server_is_gone(one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, pull = connect(one_hub, tmp_path)
    commit = push(net, REPO)
    pull(REPO)
    one_hub.stop()
    with pytest.warns(
        UserWarning, match=rf"cannot be reached .*; the copy of .* which may be outdated: commit {commit}"
    ):
        assert pull(REPO).name == commit
    with pytest.raises(HubError, match="is not in the cache, and .* cannot be reached .* pass its folder"):
        pull("ann/other")
    with pytest.raises(HubError, match="cannot be reached .*; check the network connection and try again"):
        push(net, REPO)


def test_a_commit_that_fails_leaves_nothing(hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, pull = connect(hub, tmp_path)
    old = push(net, REPO)
    with torch.no_grad():
        net.classifier[0].bias.add_(1)
    hub.faults.add("commit")
    with pytest.raises(HubError, match=r"answers with status 500 \(.*\); try again later"):
        push(net, REPO)
    hub.faults.clear()
    assert pull(REPO).name == old and not is_same(cnnzoo.load(pull(REPO)), net)
    push(net, REPO)
    assert is_same(cnnzoo.load(pull(REPO)), net)


def test_a_connection_that_breaks_during_an_upload(
    one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own retries
    push, _ = connect(one_hub, tmp_path)
    one_hub.faults.add("cut")
    with pytest.raises(HubError, match="cannot be reached|cannot upload"):
        push(net, REPO)
    assert list(one_hub.repos[REPO].commits.values())[-1].keys() == {".gitattributes"}
    one_hub.faults.clear()
    push(net, REPO)


@pytest.mark.parametrize("via", ["pull", "load"])
def test_a_damaged_download(hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path, via: str) -> None:
    push, pull = connect(hub, tmp_path)
    push(net, REPO)
    hub.faults.add("corrupt")
    load = partial(cnnzoo.load, f"hf://{REPO}", endpoint=hub.url, cache_dir=tmp_path / "cache")
    with pytest.raises(
        WeightsError, match="was damaged in the download: its checksum is not .*; it is not kept: pull again"
    ):
        pull(REPO) if via == "pull" else load()
    hub.faults.clear()
    assert is_same(cnnzoo.load(pull(REPO)), net)


def test_repositories_without_a_cnnzoo_model(one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    _, pull = connect(one_hub, tmp_path)
    one_hub.add("ann/pickle", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    with pytest.raises(
        HubError, match=r"has no model.safetensors; it holds config.json, pytorch_model.bin. .* never a"
    ):
        pull("ann/pickle")
    cnnzoo.save(net, tmp_path / "m")
    weights = (tmp_path / "m" / "model.safetensors").read_bytes()
    one_hub.add("ann/bare", {"model.safetensors": weights})
    with pytest.raises(WeightsError, match="no config.json with the checksum of the weights; verify=False accepts"):
        pull("ann/bare")
    assert is_same(cnnzoo.load(pull("ann/bare", verify=False)), net)
    other = json.loads((tmp_path / "m" / "config.json").read_text())
    other["cnnzoo"]["weights_sha256"] = "0" * 64
    one_hub.add("ann/mixed", {"model.safetensors": weights, "config.json": json.dumps(other).encode()})
    with pytest.raises(WeightsError, match="and config.json says '0000.* as the Hub has them; tell the author"):
        pull("ann/mixed")


PAGES = {  # address or name -> user/repo, revision, folder
    "https://huggingface.co/ann/x": ("ann/x", None, ""),
    "http://www.hf.co/ann/x/?library=cnnzoo#usage": ("ann/x", None, ""),
    "https://huggingface.co/ann/x/tree/v1": ("ann/x", "v1", ""),
    "https://huggingface.co/ann/x/tree/main/runs/a": ("ann/x", "main", "runs/a"),
    "https://huggingface.co/ann/x/tree/refs%2Fpr%2F3": ("ann/x", "refs/pr/3", ""),
    "https://huggingface.co/ann/x/tree/refs/pr/3/runs": ("ann/x", "refs/pr/3", "runs"),
    "https://huggingface.co/ann/x/discussions/3": ("ann/x", "refs/pr/3", ""),
    "https://huggingface.co/ann/x/blob/main/runs/model.safetensors": ("ann/x", "main", "runs"),
    "https://huggingface.co/ann/x/resolve/v1/config.json?download=true": ("ann/x", "v1", ""),
    f"https://huggingface.co/ann/x/commit/{'a' * 40}": ("ann/x", "a" * 40, ""),
    "http://127.0.0.1:9/ann/x/tree/v1": ("ann/x", "v1", ""),  # HF_ENDPOINT of the tests
    "hf://ann/x/runs/a@v1": ("ann/x", "v1", "runs/a"),
    "hf-hub:ann/x/runs": ("ann/x", None, "runs"),
    "hf://models/ann/x/model.safetensors@feature/b": ("ann/x", "feature/b", ""),
    "ann/x/runs": ("ann/x", None, "runs"),
}


@pytest.mark.parametrize("name", PAGES)
def test_names_and_addresses(name: str) -> None:
    repository = Repository.parse(name)
    assert (repository.id, repository.revision, repository.folder) == PAGES[name]
    assert Repository.parse(str(repository)) == repository


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "https://evil.example/ann/x",
            r"is not a page of the Hub \(127.0.0.1:9\); write 'hf://user/repo', and endpoint=",
        ),
        ("https://huggingface.co@evil.example/ann/x", "is not a page of the Hub"),
        ("https://huggingface.co:1/ann/x", "is not a page of the Hub"),
        ("http://[::1/ann/x", "is not a valid address"),
        ("https://huggingface.co/ann", "is not the page of a model; write"),
        ("https://huggingface.co/datasets/ann/x", "is not the page of a model; write"),
        ("https://huggingface.co/ann/x/settings", "is not the page of a model or a file of it; write 'hf://ann/x'"),
        ("https://huggingface.co/ann/x/tree", "is not the page of a model or a file of it; write 'hf://ann/x'"),
        ("https://huggingface.co/ann/x/blob/v1/README.md", "write the folder of model.safetensors, 'hf://ann/x@v1'"),
        ("https://huggingface.co/ann/x/blob/main", "is not a file that cnnzoo loads"),
        ("https://huggingface.co/ann/x/tree/main/..%2F..%2Fetc", "is not a valid name of a model repository"),
        ("https://huggingface.co/ann/x/tree/main/%2e%2e/y", "is not a valid name of a model repository"),
        (
            "https://huggingface.co/ann/x/tree/v1/a%40v2",
            "revision must be a branch, a tag or the hash|not a valid name",
        ),
        ("https://huggingface.co/ann/x/tree/v1%0a", "revision must be a branch"),
    ],
)
def test_addresses_that_are_refused(address: str, message: str) -> None:
    for verb in (cnnzoo.load, cnnzoo.pull):
        with pytest.raises(InputError, match=message):
            verb(address)


def test_a_model_in_a_folder_of_a_repository(one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, pull = connect(one_hub, tmp_path)
    push(net, REPO)
    other = cnnzoo.create(net.spec, seed=1)
    files = {f"runs/a/{file.name}": file.read_bytes() for file in cnnzoo.save(other, tmp_path / "other").iterdir()}
    commit = one_hub.add(REPO, files)
    hub = {"token": TOKEN, "endpoint": one_hub.url, "cache_dir": tmp_path / "cache"}
    for name in (f"hf://{REPO}/runs/a@main", f"{one_hub.url}/{REPO}/blob/main/runs/a/model.safetensors"):
        model = cnnzoo.load(name, **hub)
        assert is_same(model, other)
        assert model.metadata.provenance["source"] == f"hf://{REPO}/runs/a@{commit}"
    assert is_same(cnnzoo.create(f"hf://{REPO}", **hub), net)
    folder = pull(f"{REPO}/runs/a")
    assert folder == tmp_path / "cache" / "models--ann--tiny-net" / "snapshots" / commit / "runs" / "a"
    assert (folder / "model.safetensors").resolve().parent == tmp_path / "cache" / "models--ann--tiny-net" / "blobs"
    one_hub.requests.clear()
    assert pull(f"hf://{REPO}/runs/a@{commit}") == folder and one_hub.requests == []
    with pytest.raises(
        HubError, match=r"hf://ann/tiny-net/runs has no model.safetensors; the repository holds .gitattrib"
    ):
        pull(f"{REPO}/runs")
    with pytest.raises(
        InputError, match="push writes to the root of a repository, not to 'runs'; push to 'ann/tiny-net'"
    ):
        push(net, f"{REPO}/runs")
    one_hub.stop()
    with pytest.warns(
        UserWarning, match=rf"copy of hf://ann/tiny-net/runs/a in the cache .* outdated: commit {commit}$"
    ):
        assert pull(f"{REPO}/runs/a") == folder


def test_repository_names(net: cnnzoo.CNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in (cnnzoo.create, cnnzoo.load, cnnzoo.count, partial(cnnzoo.predict, images="x.png")):
        with pytest.raises(InputError) as error:
            verb("ann/tiny-net")
        assert str(error.value) == (
            f"'ann/tiny-net' does not exist here (as {tmp_path / 'ann/tiny-net'}); for a repository on the Hub write "
            "'hf://ann/tiny-net'"
        )
    cnnzoo.save(net, "ann/tiny-net")
    assert is_same(cnnzoo.create("ann/tiny-net"), net) and is_same(cnnzoo.load("local-dir:ann/tiny-net"), net)
    for name in (
        "hf://",
        "hf://a/b/../c",
        "hf://a/b//c",
        "hf://a/b/c/",
        "hf://a/b/c d",
        "hf://a/b/.@v1",
        "hf://ann/x@",
        "a/../b",
        "hf://ann/x y",
    ):
        with pytest.raises(InputError, match="is not a valid name of a model repository; write 'hf://user/repo'"):
            cnnzoo.pull(name)
    with pytest.raises(InputError, match="names revision 'v1', and revision='v2' another; pass only one"):
        cnnzoo.load("hf://ann/x@v1", revision="v2")
    with pytest.raises(InputError, match="revision= is for the Hub, and 'ann/tiny-net' is a path; for a repository"):
        cnnzoo.load("ann/tiny-net", revision="v1")
    with pytest.raises(
        InputError, match="token, endpoint= is for the Hub; name a repository, such as 'hf://user/repo'"
    ):
        cnnzoo.create("lenet", token="x", endpoint="y")
    with pytest.raises(FileError, match="none does not exist"):
        cnnzoo.push("none", REPO)
    with pytest.raises(InputError, match="a repository must be a string such as 'user/repo', not int"):
        cnnzoo.pull(3)  # type: ignore[arg-type]


# The client reads the environment when it is imported: each process that is forked here imports it anew.
IN_ENVIRONMENTS = """
import http.client, json, os, sys
import cnnzoo, cnnzoo.weights
assert "huggingface_hub" not in sys.modules
for environment in json.loads(sys.argv[1]):
    http.client.HTTPConnection(environment["HF_ENDPOINT"].removeprefix("http://")).request("GET", "/marker")
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        continue
    os.environ.update(environment)
    for verb, *names in (cnnzoo.push, "m", "ann/tiny-net"), (cnnzoo.pull, "ann/tiny-net"), (cnnzoo.pull, "ann/other"):
        try:
            print(verb(*names), flush=True)
        except cnnzoo.CnnzooError as error:
            print(error, flush=True)
    os._exit(0)
"""


def test_environment_variables(one_hub: LocalHub, tmp_path: Path) -> None:
    """HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE, which the client reads once."""
    cnnzoo.save(cnnzoo.create("lenet", seed=0), tmp_path / "m")
    variables = {"HF_ENDPOINT": one_hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
    environments = [variables, {**variables, "HF_HUB_OFFLINE": "1"}]
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_PROGRESS_BARS"}
    process = subprocess.run(
        [sys.executable, "-c", IN_ENVIRONMENTS, json.dumps(environments)],
        env=environment, capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert "%|" not in process.stderr  # progress bars are for terminals
    commit, folder, other, *offline = process.stdout.splitlines()
    assert one_hub.repos[REPO].branches["main"] == commit
    assert Path(folder).name == commit and (tmp_path / "home") in Path(folder).parents
    assert "has no model ann/other, or it is private" in other
    pushed, again, other = offline
    assert pushed == "cannot upload hf://ann/tiny-net with HF_HUB_OFFLINE=1; unset it"
    assert again == folder
    assert other.startswith("hf://ann/other is not in the cache, and HF_HUB_OFFLINE=1 forbids a download; unset it; or")
    assert one_hub.requests[-1] == "GET /marker"  # the second process sends none


def test_commands(one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cnnzoo.save(net, "m")
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--endpoint", one_hub.url])

    result = run("push", "m", REPO, "--tag", "v1", "--private", "--license", "mit", "--message", "a first one")
    assert result.exit_code == 0, result.stderr
    commit = one_hub.repos[REPO].tags["v1"]
    assert result.stdout == f"commit {commit}\ncnnzoo.create('hf://{REPO}@{commit}')\n"
    assert one_hub.repos[REPO].private and one_hub.repos[REPO].messages[-1] == "a first one"
    assert "is private, and private=False was passed" in run("push", "m", REPO, "--public").stderr
    cnnzoo.save(cnnzoo.create(net.spec, seed=1), "other")
    result = run("push", "other", REPO, "--create-pr")
    assert result.stdout.startswith("pull request refs/pr/1\ncommit "), result.stderr
    result = run("pull", REPO, "--cache-dir", "cache", "--revision", "v1")
    assert Path(result.stdout.strip()).name == commit and is_same(cnnzoo.load(result.stdout.strip()), net)
    result = run("pull", "ann/other")
    assert (result.exit_code, result.stdout) == (1, "") and result.stderr.startswith("error: http://127.0.0.1")
    assert run("push", "none", REPO).stderr == "error: none does not exist\n"


def test_config_belongs_to_the_weights(one_hub: LocalHub, net: cnnzoo.CNN, tmp_path: Path) -> None:
    push, pull = connect(one_hub, tmp_path)
    push(net, REPO)
    config = read_json(pull(REPO) / "config.json")
    assert config["cnnzoo"]["weights_sha256"] == weights_sha256(net.state_dict())
    assert config["architecture"] == "tiny" and config["label_names"] == ["a", "b", "c"]
