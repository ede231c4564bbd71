"""Downloads of historical weights: BVLC's Caffe models, and files of the ONNX model zoo.

What needs torch is imported by the functions, so that the weights are listed without it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnzoo.edits import edit
from cnnzoo.errors import FileError, WeightsError
from cnnzoo.files import atomic_write, cache_folder, os_reason
from cnnzoo.spec import Spec

if TYPE_CHECKING:
    from cnnzoo.network import CNN
    from cnnzoo.preprocessing import Preprocessing

_BVLC_URL = "http://dl.caffe.berkeleyvision.org"
_ONNX_URL = "https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main/validated/vision/classification"

_MEAN_IMAGE = (122.67892, 116.66877, 104.00699)  # RGB: mean over the positions of Caffe's mean image of ImageNet
_MEAN_PIXEL = (123.0, 117.0, 104.0)
_VGG_MEAN = (123.68, 116.779, 103.939)

_CHUNK = 2**20  # bytes
_TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class Download:
    """Weights that can be downloaded.

    Attributes:
        url: Their address.
        checksum: ``"sha1:..."`` or ``"sha256:..."`` of the file, as its publisher says.
        metrics: Accuracies in percent, as its publisher says: ``top1``, ``top5``.
        mean: Mean of each channel, RGB, values to 255, which is subtracted.
        resized: Side to which images are resized before the center is cropped.
        edits: Blocks in which the network of the file differs from the registered one: label -> fields.
        image_size: Image size of the network of the file; 0 for that of the registered one.
        license: As its publisher says.
    """

    url: str
    checksum: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    mean: tuple[float, ...] = _MEAN_IMAGE
    resized: int = 256
    edits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    image_size: int = 0
    license: str = "apache-2.0"


BVLC = {
    "bvlc_alexnet": Download(
        f"{_BVLC_URL}/bvlc_alexnet.caffemodel",
        "sha1:9116a64c0fbe4459d18f4bb6b56d647b63920377",
        {"top1": 57.1, "top5": 80.2},
        license="unrestricted",
    ),
    "caffenet": Download(
        f"{_BVLC_URL}/bvlc_reference_caffenet.caffemodel",
        "sha1:4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
        {"top1": 57.4, "top5": 80.4},
        license="unrestricted",
    ),
    "googlenet_2014": Download(
        f"{_BVLC_URL}/bvlc_googlenet.caffemodel",
        "sha1:405fc5acd08a3bb12de8ee5e23a96bec22f08204",
        {"top1": 68.7, "top5": 88.9},
        mean=_MEAN_PIXEL,
        license="unrestricted",
    ),
}

_POOL5: Mapping[str, Mapping[str, Any]] = {"pool5": {"ceil_mode": True}}

ONNX = {
    "bvlc_alexnet": Download(
        f"{_ONNX_URL}/alexnet/model/bvlcalexnet-12.onnx",
        "sha256:6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945",
        {"top1": 54.80, "top5": 78.23},
        edits=_POOL5,
        image_size=224,
    ),
    "caffenet": Download(
        f"{_ONNX_URL}/caffenet/model/caffenet-12.onnx",
        "sha256:ea563e5c47d1f58e1717cf1a2d8bf288b8adc07af0ad228b622096cd243aeecb",
        edits=_POOL5,
        image_size=224,
    ),
    "googlenet_2014": Download(
        f"{_ONNX_URL}/inception_and_googlenet/googlenet/model/googlenet-12.onnx",
        "sha256:c99c507058eaf41de8723408fdda7db8325cb57f0a89f2ee07a716d6e963e14e",
        mean=_MEAN_PIXEL,
        edits={"pool[1234]": {"ceil_mode": False}},
    ),
    "zfnet512": Download(
        f"{_ONNX_URL}/zfnet-512/model/zfnet512-12.onnx",
        "sha256:c975ca6a24c0a2e1584c6f82667e0ac9c06084fc7769d267f71b4a154d1f1c72",
        mean=_VGG_MEAN,
        resized=224,
    ),
}


def fetch_bvlc(name: str, spec: Spec, seed: int | None = None) -> CNN:
    """Returns a network with the weights that BVLC trained with Caffe on ImageNet, downloaded on first use.

    Args:
        name: A key of ``BVLC``.
        spec: The registered network.
        seed: Not used: the file has all weights.

    Raises:
        FileError: If the file cannot be downloaded.
        WeightsError: If the download is damaged, or does not fit.
    """
    from cnnzoo.weights.formats.loading import load_caffemodel

    model, path, preprocessing = _download(BVLC[name], spec)
    load_caffemodel(model, path, preprocessing=preprocessing)
    return _with_metadata(model, "bvlc", BVLC[name])


def fetch_onnx(name: str, spec: Spec, seed: int | None = None) -> CNN:
    """Returns the network of a file of the ONNX model zoo, trained on ImageNet, downloaded on first use.

    Its blocks are those of the file, which differ from those of the registered network in pools and image size.

    Args:
        name: A key of ``ONNX``.
        spec: The registered network.
        seed: Not used: the file has all weights.

    Raises:
        FileError: If the file cannot be downloaded.
        WeightsError: If the download is damaged, or does not fit.
    """
    from cnnzoo.weights.formats.loading import load_onnx

    model, path, preprocessing = _download(ONNX[name], spec)
    load_onnx(model, path, preprocessing=preprocessing, channel_order="bgr")
    return _with_metadata(model, "onnx", ONNX[name])


def _download(download: Download, spec: Spec) -> tuple[CNN, Path, Preprocessing]:
    """Returns the network of a file, without its weights, the path of the file, and how it prepares images."""
    from cnnzoo.network import build_network
    from cnnzoo.preprocessing import Preprocessing

    if download.image_size:
        spec = dataclasses.replace(spec, input=(spec.input[0], download.image_size, download.image_size))
    for label, fields in download.edits.items():
        spec = edit(spec, label, **fields)
    path, size = download_file(download.url, download.checksum), spec.input[1:]
    mean = tuple(value / 255 for value in download.mean)
    preprocessing = Preprocessing((size[0], size[1]), mean, (1 / 255,) * 3, crop_pct=size[0] / download.resized)
    return build_network(spec, 0), path, preprocessing


def _with_metadata(model: CNN, kind: str, download: Download) -> CNN:
    from torchvision.models import get_model_weights

    model.metadata = model.metadata.replace(
        label_names=get_model_weights("alexnet")["DEFAULT"].meta["categories"],  # ImageNet's, in the same order
        provenance={"kind": kind, "url": download.url, "checksum": download.checksum},
    )
    return model.eval()


def download_file(url: str, checksum: str) -> Path:
    """Returns a file in the cache of cnnzoo, which is downloaded if it is not there.

    Args:
        url: Its address.
        checksum: ``"sha1:..."`` or ``"sha256:..."``.

    Raises:
        FileError: If it cannot be downloaded.
        WeightsError: If its checksum is another.
    """
    from cnnzoo.progress_bar import progress_bar

    path = cache_folder() / "weights" / url.rpartition("/")[2]
    algorithm, _, expected = checksum.partition(":")
    if path.is_file():
        with path.open("rb") as file:
            if hashlib.file_digest(file, algorithm).hexdigest() == expected:
                return path
        raise WeightsError(
            f"{path} is damaged: its {algorithm} is not {expected}; delete it, and it is downloaded again"
        )
    digest = hashlib.new(algorithm)
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, atomic_write(path) as file:
            size = int(answer.headers.get("Content-Length") or 0)
            with progress_bar(path.name, size) as advance:
                while chunk := answer.read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
                    advance(len(chunk))
            if digest.hexdigest() != expected:
                raise WeightsError(
                    f"the download of {url} is damaged: its {algorithm} is {digest.hexdigest()}, not {expected}; "
                    "try again"
                )
    except (OSError, http.client.HTTPException) as error:  # includes those of urllib
        if isinstance(error, FileError):
            raise
        raise FileError(
            f"{url} could not be downloaded ({os_reason(error)}); check the network connection, or put the file at "
            f"{path}"
        ) from None
    return path
