"""Repositories of timm and transformers that hold a network of the zoo: config.json and model.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnzoo.edits import apply_knobs
from cnnzoo.errors import CnnzooError, WeightsError, warn
from cnnzoo.files import CONFIG_FILE, PREPROCESSOR_FILE, WEIGHTS_FILE, exists, read_json
from cnnzoo.network import CNN
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.registry import get_entry, get_spec, list_models
from cnnzoo.serialization import METADATA_KEY, load_tensors, read_header
from cnnzoo.spec import Spec
from cnnzoo.weights.foreign import build_with_tensors

# layer_type and depths in the configs of transformers
_RESNETS = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}
_FILTERS = {2: "bilinear", 3: "bicubic"}  # PIL's numbers, which transformers stores


def is_foreign(folder: Path) -> bool:
    """Returns whether a folder holds a network of timm or transformers, by the keys of its config.json."""
    if not exists(folder) or not exists(folder / CONFIG_FILE) or not exists(folder / WEIGHTS_FILE):
        return False
    config = read_json(folder / CONFIG_FILE)
    is_ours = METADATA_KEY in config or bool(read_header(folder / WEIGHTS_FILE)[1])
    return not is_ours and (isinstance(config.get("architecture"), str) or isinstance(config.get("model_type"), str))


def read_foreign(folder: Path, *, mmap: bool = False) -> CNN:
    """Builds the network in a folder of timm or transformers, with its weights, label names and preprocessing.

    Args:
        folder: A folder for which ``is_foreign`` is true.
        mmap: As for ``load``.

    Raises:
        WeightsError: If it is not a network of the zoo, or its weights do not fit.
    """
    config = read_json(folder / CONFIG_FILE)
    read = _read_transformers if "model_type" in config else _read_timm
    spec, label_names, preprocessing = read(config, folder)
    model = build_with_tensors(spec, load_tensors(folder / WEIGHTS_FILE, mmap=mmap), str(folder / WEIGHTS_FILE))
    metadata = model.metadata
    if label_names is not None and len(label_names) == model.spec.num_classes:
        metadata = metadata.replace(label_names=label_names)
    if preprocessing is not None and preprocessing.channels == model.spec.input[0]:
        metadata = metadata.replace(preprocessing=preprocessing)
    model.metadata = metadata
    return model


_Content = tuple[Spec, list[str] | None, Preprocessing | None]


def _read_timm(config: Mapping[str, Any], folder: Path) -> _Content:
    architecture = config["architecture"]
    twins = {entry.twin.name: name for name in list_models() if (entry := get_entry(name)).twin is not None}
    if architecture not in twins:
        raise WeightsError(
            f"{folder}: its {CONFIG_FILE} names the architecture {architecture!r} of timm, which is no network of "
            f"cnnzoo; those with timm's names are {', '.join(sorted(twins))}"
        )
    inner = config.get("pretrained_cfg")
    preprocessing = None
    if isinstance(inner, dict):
        try:
            preprocessing = Preprocessing.from_dict(inner)
        except CnnzooError as error:
            _warn_unknown(folder, error)
    spec = get_spec(twins[architecture])
    if preprocessing is not None and preprocessing.size[0] == preprocessing.size[1]:
        spec = apply_knobs(spec, image_size=preprocessing.size[0])
    names = config.get("label_names")
    return spec, names if isinstance(names, list) and all(isinstance(n, str) for n in names) else None, preprocessing


def _read_transformers(config: Mapping[str, Any], folder: Path) -> _Content:
    kind, depths = config.get("layer_type", "bottleneck"), config.get("depths", [3, 4, 6, 3])
    name = _RESNETS.get((kind, tuple(depths))) if config["model_type"] == "resnet" else None
    expected = {"hidden_act": "relu", "embedding_size": 64, "downsample_in_first_stage": False}
    others = [key for key, value in expected.items() if config.get(key, value) != value]
    if name is None or others:
        reason = (
            f"{config['model_type']} with {', '.join(f'{key}={config[key]!r}' for key in others) or 'other blocks'}"
        )
        raise WeightsError(
            f"{folder}: its {CONFIG_FILE} describes a network of transformers, {reason}, which is no network of "
            f"cnnzoo; those of transformers are {', '.join(_RESNETS.values())}"
        )
    knobs = {"stride_in_1x1": True} if config.get("downsample_in_bottleneck") and kind == "bottleneck" else {}
    labels = config.get("id2label")
    names = None
    if isinstance(labels, dict) and all(str(number) in labels for number in range(len(labels))):
        names = [str(labels[str(number)]) for number in range(len(labels))]
    preprocessing = None
    if exists(folder / PREPROCESSOR_FILE):
        try:
            preprocessing = _convnext_preprocessing(read_json(folder / PREPROCESSOR_FILE))
        except (CnnzooError, KeyError, TypeError, ZeroDivisionError) as error:
            _warn_unknown(folder, error)
    spec = get_spec(name, **knobs)
    if preprocessing is not None:
        spec = apply_knobs(spec, image_size=preprocessing.size[0])
    return spec, names, preprocessing


def _convnext_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """Returns the preprocessing of transformers' ConvNextImageProcessor, which its ResNets use."""
    kind = config.get("image_processor_type", config.get("feature_extractor_type", "none"))
    if not str(kind).startswith("ConvNext"):
        raise WeightsError(f"the image processor {kind} is not known")
    size = config["size"]
    side = size["shortest_edge"] if isinstance(size, dict) else size
    crop_pct = config.get("crop_pct") or 224 / 256
    is_small = side < 384  # larger images are squashed, and not cropped
    return Preprocessing(
        side,
        config["image_mean"],
        config["image_std"],
        crop_mode="center" if is_small else "squash",
        crop_pct=crop_pct if is_small else 1.0,
        interpolation=_FILTERS[config.get("resample", 3)],
    )


def _warn_unknown(folder: Path, error: Exception) -> None:
    warn(
        f"{folder}: how it prepares images is not known ({error}); set model.metadata with a Preprocessing",
        stacklevel=5,
    )
