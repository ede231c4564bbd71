"""Caffe models for tests: written with Google's protobuf, and computed layer by layer, both independently of cnnzoo."""

from __future__ import annotations

import math
from typing import Any

import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from torch.nn import functional as F

# the messages of caffe.proto: name -> number and type of each field; "*" for repeated, "+" for packed
_PROTO: dict[str, dict[str, tuple[int, str]]] = {
    "BlobShape": {"dim": (1, "+int64")},
    "BlobProto": {
        "num": (1, "int32"), "channels": (2, "int32"), "height": (3, "int32"), "width": (4, "int32"),
        "data": (5, "+float"), "diff": (6, "+float"), "shape": (7, "BlobShape"), "double_data": (8, "+double"),
    },
    "Convolution": {
        "num_output": (1, "uint32"), "bias_term": (2, "bool"), "pad": (3, "*uint32"), "kernel_size": (4, "*uint32"),
        "group": (5, "uint32"), "stride": (6, "*uint32"), "pad_h": (9, "uint32"), "pad_w": (10, "uint32"),
        "dilation": (18, "*uint32"),
    },
    "InnerProduct": {"num_output": (1, "uint32"), "transpose": (6, "bool")},
    "LRN": {
        "local_size": (1, "uint32"), "alpha": (2, "float"), "beta": (3, "float"), "norm_region": (4, "int32"),
        "k": (5, "float"),
    },
    "Pooling": {
        "pool": (1, "int32"), "kernel_size": (2, "uint32"), "stride": (3, "uint32"), "pad": (4, "uint32"),
        "global_pooling": (12, "bool"), "round_mode": (13, "int32"),
    },
    "BatchNorm": {"eps": (3, "float")},
    "Scale": {"axis": (1, "int32"), "bias_term": (5, "bool")},
    "Eltwise": {"operation": (1, "int32"), "coeff": (2, "*float")},
    "Transform": {
        "scale": (1, "float"), "mirror": (2, "bool"), "crop_size": (3, "uint32"), "mean_file": (4, "string"),
        "mean_value": (5, "*float"),
    },
    "Layer": {
        "name": (1, "string"), "type": (2, "string"), "bottom": (3, "*string"), "top": (4, "*string"),
        "blobs": (7, "*BlobProto"), "transform": (100, "Transform"), "convolution": (106, "Convolution"),
        "eltwise": (110, "Eltwise"), "inner_product": (117, "InnerProduct"), "lrn": (118, "LRN"),
        "pooling": (121, "Pooling"), "batch_norm": (139, "BatchNorm"), "scale": (142, "Scale"),
    },
    "V1Layer": {
        "bottom": (2, "*string"), "top": (3, "*string"), "name": (4, "string"), "type": (5, "int32"),
        "blobs": (6, "*BlobProto"), "convolution": (10, "Convolution"), "inner_product": (17, "InnerProduct"),
        "lrn": (18, "LRN"), "pooling": (19, "Pooling"), "eltwise": (24, "Eltwise"), "transform": (36, "Transform"),
    },
    "Net": {"name": (1, "string"), "layers": (2, "*V1Layer"), "input": (3, "*string"), "layer": (100, "*Layer")},
}  # fmt: skip
_V1_TYPES = {
    "Concat": 3, "Convolution": 4, "Data": 5, "Dropout": 6, "InnerProduct": 14, "LRN": 15, "Pooling": 17, "ReLU": 18,
    "Softmax": 20, "SoftmaxWithLoss": 21, "Split": 22, "Eltwise": 25,
}  # fmt: skip
_MESSAGE_OF = {
    "Convolution": "convolution", "InnerProduct": "inner_product", "LRN": "lrn", "Pooling": "pooling",
    "BatchNorm": "batch_norm", "Scale": "scale", "Eltwise": "eltwise", "Data": "transform",
}  # fmt: skip


def _make_net_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="caffe_for_tests.proto", package="caffe_for_tests", syntax="proto2")
    types = {
        name.removeprefix("TYPE_").lower(): number for name, number in descriptor_pb2.FieldDescriptorProto.Type.items()
    }
    for name, fields in _PROTO.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number, label=3 if kind[0] in "*+" else 1)
            field.options.packed = kind[0] == "+"
            kind = kind.lstrip("*+")
            field.type = types.get(kind, types["message"])
            if kind not in types:
                field.type_name = f".caffe_for_tests.{kind}"
            if not field.options.packed:
                field.ClearField("options")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe_for_tests.Net"))


Net = _make_net_class()


class CaffeNet:
    """A Caffe network, built layer by layer with weights from a seed.

    Args:
        channels: Of the images.
        seed: Seed of the weights.
    """

    def __init__(self, channels: int = 3, seed: int = 0) -> None:
        self.layers: list[dict[str, Any]] = []
        self.channels = {"data": channels}
        self.last = "data"
        self._generator = torch.Generator().manual_seed(seed)

    def add(
        self, kind: str, name: str, *bottoms: str, top: str = "", blobs: Any = (), channels: int = 0, **params: Any
    ) -> str:
        """Adds a layer; by default it takes the output of the last, and ReLU and its like write in place."""
        bottoms = bottoms or (self.last,)
        in_place = kind in ("ReLU", "Dropout", "BatchNorm", "Scale")
        top = top or (bottoms[0] if in_place else name)
        self.layers.append(
            {"type": kind, "name": name, "bottoms": bottoms, "top": top, "blobs": list(blobs), "params": params}
        )
        self.channels[top] = channels or self.channels[bottoms[0]]
        self.last = top
        return top

    def _random(self, *shape: int, scale: float = 0.1) -> torch.Tensor:
        return torch.randn(*shape, generator=self._generator) * scale

    def conv(
        self, name: str, maps: int, kernel: int, *bottoms: str, relu: bool = True, bias: bool = True, **params: Any
    ) -> str:
        inputs = self.channels[bottoms[0] if bottoms else self.last] // params.get("group", 1)
        weight = self._random(maps, inputs, kernel, kernel, scale=math.sqrt(2 / (inputs * kernel**2)))
        blobs = [weight, self._random(maps)] if bias else [weight]
        extra = {} if bias else {"bias_term": False}
        params |= {"num_output": maps, "kernel_size": kernel, **extra}
        top = self.add("Convolution", name, *bottoms, blobs=blobs, channels=maps, **params)
        return self.add("ReLU", f"relu_{name}") if relu else top

    def norm(self, name: str, scale_name: str, factor: float = 2.5) -> str:
        """Adds a BatchNorm, whose blobs are multiples of the statistics by ``factor``, and its Scale."""
        n = self.channels[self.last]
        mean, variance = self._random(n), self._random(n).abs() + 0.5
        self.add("BatchNorm", name, blobs=[mean * factor, variance * factor, torch.tensor([factor])])
        return self.add("Scale", scale_name, blobs=[1 + self._random(n), self._random(n)], bias_term=True)

    def dense(self, name: str, inputs: int, units: int, relu: bool = True) -> None:
        weight = self._random(units, inputs, scale=math.sqrt(2 / inputs))
        self.add("InnerProduct", name, blobs=[weight, self._random(units)], channels=units, num_output=units)
        if relu:
            self.add("ReLU", f"relu_{name}")

    def pool(self, name: str, *bottoms: str, mean: bool = False, **params: Any) -> str:
        return self.add("Pooling", name, *bottoms, pool=int(mean), **params)

    def to_bytes(self, version: int = 2, data: dict[str, Any] | None = None) -> bytes:
        """Returns the file in the first or second format; ``data`` is the transform_param of a data layer."""
        net = Net(name="test", input=["data"] if data is None else [])
        layers = self.layers
        if data is not None:
            layers = [
                {"type": "Data", "name": "data", "bottoms": (), "top": "data", "blobs": [], "params": data},
                *layers,
            ]
        for layer in layers:
            entry = net.layers.add() if version == 1 else net.layer.add()
            entry.name, entry.type = layer["name"], _V1_TYPES[layer["type"]] if version == 1 else layer["type"]
            entry.bottom.extend(layer["bottoms"])
            entry.top.append(layer["top"])
            for values in layer["blobs"]:
                blob = entry.blobs.add()
                if version == 1:
                    shape = [1] * (4 - values.dim()) + list(values.shape)
                    blob.num, blob.channels, blob.height, blob.width = shape
                else:
                    blob.shape.dim.extend(values.shape)
                blob.data.extend(values.reshape(-1).tolist())
            if layer["params"]:
                message = getattr(entry, _MESSAGE_OF[layer["type"]])
                for key, value in layer["params"].items():
                    field = message.DESCRIPTOR.fields_by_name[key]
                    if field.is_repeated:
                        getattr(message, key).extend(value if isinstance(value, list) else [value])
                    else:
                        setattr(message, key, value)
        return bytes(net.SerializeToString())

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the output of the last layer but a softmax, for images as Caffe takes them (BGR)."""
        values = {"data": images}
        for layer in self.layers:
            if layer["type"] in ("Softmax", "SoftmaxWithLoss"):
                continue
            inputs = [values[bottom] for bottom in layer["bottoms"]]
            values[layer["top"]] = result = _compute(layer, inputs)
        return result.flatten(1)


def _compute(layer: dict[str, Any], inputs: list[torch.Tensor]) -> torch.Tensor:
    x, blobs, params = inputs[0], layer["blobs"], layer["params"]
    match layer["type"]:
        case "Convolution":
            bias = blobs[1] if len(blobs) > 1 else None
            return F.conv2d(
                x, blobs[0], bias, params.get("stride", 1), params.get("pad", 0), groups=params.get("group", 1)
            )
        case "InnerProduct":
            return x.flatten(1) @ blobs[0].T + blobs[1]
        case "ReLU":
            return x.clamp(min=0)
        case "Dropout" | "Split":
            return x
        case "LRN":
            n, alpha, beta = params.get("local_size", 5), params.get("alpha", 1.0), params.get("beta", 0.75)
            squares = F.pad(x.square(), (0, 0, 0, 0, n // 2, n // 2))
            total = sum(squares[:, i : i + x.shape[1]] for i in range(n))
            return x / (params.get("k", 1.0) + alpha / n * total) ** beta
        case "BatchNorm":
            mean, variance = (blob / blobs[2] for blob in blobs[:2])
            return (x - mean.view(1, -1, 1, 1)) / (variance.view(1, -1, 1, 1) + params.get("eps", 1e-5)).sqrt()
        case "Scale":
            return x * blobs[0].view(1, -1, 1, 1) + blobs[1].view(1, -1, 1, 1)
        case "Concat":
            return torch.cat(inputs, 1)
        case "Eltwise":
            return inputs[0] + inputs[1]
        case "Pooling":
            return _pool(x, params)
    raise ValueError(layer["type"])


def _pool(x: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
    """Returns pooled maps, window by window, with Caffe's sizes and divisors."""
    height, width = x.shape[2:]
    if params.get("global_pooling"):
        return x.mean((2, 3), keepdim=True) if params["pool"] else x.amax((2, 3), keepdim=True)
    kernel, stride, pad = params["kernel_size"], params.get("stride", 1), params.get("pad", 0)
    rows, columns = (_starts(side, kernel, stride, pad) for side in (height, width))
    out = x.new_zeros(*x.shape[:2], len(rows), len(columns))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            bottom, right = min(top + kernel, height + pad), min(left + kernel, width + pad)
            window = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
            size = (bottom - top) * (right - left)
            out[:, :, i, j] = window.sum((2, 3)) / size if params["pool"] else window.amax((2, 3))
    return out


def _starts(side: int, kernel: int, stride: int, pad: int) -> list[int]:
    number = math.ceil((side + 2 * pad - kernel) / stride) + 1
    if pad and (number - 1) * stride >= side + pad:
        number -= 1
    return [i * stride - pad for i in range(number)]


# --- networks of the literature, after their prototxt files ---


def alexnet(classes: int = 1000, pool_first: bool = False, dense: int = 4096, **lrn: Any) -> CaffeNet:
    """bvlc_alexnet, or CaffeNet with ``pool_first``."""
    net = CaffeNet()
    lrn = {"local_size": 5, "alpha": 1e-4, "beta": 0.75, **lrn}

    def norm_and_pool(number: int) -> None:
        steps = [
            lambda: net.add("LRN", f"norm{number}", **lrn),
            lambda: net.pool(f"pool{number}", kernel_size=3, stride=2),
        ]
        for step in reversed(steps) if pool_first else steps:
            step()

    net.conv("conv1", 96, 11, stride=4)
    norm_and_pool(1)
    net.conv("conv2", 256, 5, pad=2, group=2)
    norm_and_pool(2)
    net.conv("conv3", 384, 3, pad=1)
    net.conv("conv4", 384, 3, pad=1, group=2)
    net.conv("conv5", 256, 3, pad=1, group=2)
    net.pool("pool5", kernel_size=3, stride=2)
    net.dense("fc6", 9216, dense)
    net.add("Dropout", "drop6")
    net.dense("fc7", dense, dense)
    net.add("Dropout", "drop7")
    net.dense("fc8", dense, classes, relu=False)
    net.add("Softmax", "prob")
    return net


def lenet() -> CaffeNet:
    """lenet of examples/mnist."""
    net = CaffeNet(channels=1)
    net.conv("conv1", 20, 5, relu=False)
    net.pool("pool1", kernel_size=2, stride=2)
    net.conv("conv2", 50, 5, relu=False)
    net.pool("pool2", kernel_size=2, stride=2)
    net.dense("ip1", 800, 500)
    net.dense("ip2", 500, 10, relu=False)
    return net


_INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip


def googlenet(auxiliary: bool = False) -> CaffeNet:
    """bvlc_googlenet; ``auxiliary`` with the heads that are there in training, made small."""
    net = CaffeNet()
    net.conv("conv1/7x7_s2", 64, 7, pad=3, stride=2)
    net.pool("pool1/3x3_s2", kernel_size=3, stride=2)
    net.add("LRN", "pool1/norm1", local_size=5, alpha=1e-4, beta=0.75)
    net.conv("conv2/3x3_reduce", 64, 1)
    net.conv("conv2/3x3", 192, 3, pad=1)
    net.add("LRN", "conv2/norm2", local_size=5, alpha=1e-4, beta=0.75)
    net.pool("pool2/3x3_s2", kernel_size=3, stride=2)
    for name, (ones, reduce3, threes, reduce5, fives, proj) in _INCEPTIONS.items():
        if name in ("4a", "5a"):
            net.pool(f"pool{int(name[0]) - 1}/3x3_s2", kernel_size=3, stride=2)
        x, prefix = net.last, f"inception_{name}"
        paths = [net.conv(f"{prefix}/1x1", ones, 1, x)]
        net.conv(f"{prefix}/3x3_reduce", reduce3, 1, x)
        paths.append(net.conv(f"{prefix}/3x3", threes, 3, pad=1))
        net.conv(f"{prefix}/5x5_reduce", reduce5, 1, x)
        paths.append(net.conv(f"{prefix}/5x5", fives, 5, pad=2))
        net.pool(f"{prefix}/pool", x, kernel_size=3, stride=1, pad=1)
        paths.append(net.conv(f"{prefix}/pool_proj", proj, 1))
        net.add("Concat", f"{prefix}/output", *paths, channels=ones + threes + fives + proj)
        if auxiliary and name in ("4a", "4d"):
            main = net.last
            number = 1 if name == "4a" else 2
            net.pool(f"loss{number}/ave_pool", main, mean=True, kernel_size=14)
            net.dense(f"loss{number}/classifier", net.channels[main], 8, relu=False)
            net.add("SoftmaxWithLoss", f"loss{number}/loss", net.last, "label")
            net.last = main
    net.pool("pool5/7x7_s1", mean=True, kernel_size=7, stride=1)
    net.add("Dropout", "pool5/drop_7x7_s1")
    net.dense("loss3/classifier", 1024, 1000, relu=False)
    net.add("Softmax" if not auxiliary else "SoftmaxWithLoss", "prob", *((net.last, "label") if auxiliary else ()))
    return net


def squeezenet(size: tuple[int, int] = (64, 3), early_pools: bool = True) -> CaffeNet:
    """SqueezeNet 1.1 of its authors; ``size`` is that of conv1."""
    net = CaffeNet()
    net.conv("conv1", size[0], size[1], stride=2)
    net.pool("pool1", kernel_size=3, stride=2)
    for number, (squeeze, expand) in enumerate(
        [(16, 64)] * 2 + [(32, 128)] * 2 + [(48, 192)] * 2 + [(64, 256)] * 2, start=2
    ):
        net.conv(f"fire{number}/squeeze1x1", squeeze, 1)
        x = net.last
        paths = [
            net.conv(f"fire{number}/expand1x1", expand, 1, x),
            net.conv(f"fire{number}/expand3x3", expand, 3, x, pad=1),
        ]
        net.add("Concat", f"fire{number}/concat", *paths, channels=2 * expand)
        if number in (3, 5):
            net.pool(f"pool{number}", kernel_size=3, stride=2)
    net.add("Dropout", "drop9")
    net.conv("conv10", 1000, 1)
    net.pool("pool10", mean=True, global_pooling=True)
    net.add("Softmax", "prob")
    return net


def vgg(depths: tuple[int, ...] = (2, 2, 3, 3, 3), width: int = 64, dense: int = 4096, classes: int = 1000) -> CaffeNet:
    """VGG-16 of its authors, or one with fewer maps."""
    net = CaffeNet()
    for stage, depth in enumerate(depths, start=1):
        for i in range(1, depth + 1):
            net.conv(f"conv{stage}_{i}", width * 2 ** min(stage - 1, 3), 3, pad=1)
        net.pool(f"pool{stage}", kernel_size=2, stride=2)
    net.dense("fc6", width * 8 * 49, dense)
    net.dense("fc7", dense, dense)
    net.dense("fc8", dense, classes, relu=False)
    return net


def resnet(
    depths: tuple[int, ...] = (3, 4, 6, 3), width: int = 64, classes: int = 1000, bias_in_conv1: bool = True
) -> CaffeNet:
    """ResNet-50 of its authors: strides in the first 1x1 convolution, a pool without padding, biases in conv1."""
    net = CaffeNet()

    def conv_and_norm(name: str, maps: int, kernel: int, *bottoms: str, **params: Any) -> str:
        net.conv(name, maps, kernel, *bottoms, relu=False, bias=False, **params)
        return net.norm(name.replace("res", "bn", 1), name.replace("res", "scale", 1))

    net.conv("conv1", width, 7, relu=False, bias=bias_in_conv1, pad=3, stride=2)
    net.norm("bn_conv1", "scale_conv1")
    net.add("ReLU", "conv1_relu")
    net.pool("pool1", kernel_size=3, stride=2)
    for stage, depth in enumerate(depths, start=2):
        maps = width * 2 ** (stage - 2)
        for i in range(depth):
            name, x, stride = f"res{stage}{'abcdef'[i]}", net.last, 2 if stage > 2 and i == 0 else 1
            shortcut = x
            if i == 0:
                shortcut = conv_and_norm(f"{name}_branch1", 4 * maps, 1, x, stride=stride)
            conv_and_norm(f"{name}_branch2a", maps, 1, x, stride=stride)
            net.add("ReLU", f"{name}_branch2a_relu")
            conv_and_norm(f"{name}_branch2b", maps, 3, pad=1)
            net.add("ReLU", f"{name}_branch2b_relu")
            body = conv_and_norm(f"{name}_branch2c", 4 * maps, 1)
            net.add("Eltwise", name, shortcut, body)
            net.add("ReLU", f"{name}_relu")
    net.pool("pool5", mean=True, kernel_size=7, stride=1)
    net.dense("fc1000", 32 * width, classes, relu=False)
    net.add("Softmax", "prob")
    return net


def densenet(
    depths: tuple[int, ...] = (6, 12, 24, 16), growth: int = 32, first: int = 64, classes: int = 1000
) -> CaffeNet:
    """DenseNet-121 for Caffe: the classifier is a 1x1 convolution."""
    net = CaffeNet()
    net.conv("conv1", first, 7, relu=False, bias=False, pad=3, stride=2)
    net.norm("conv1/bn", "conv1/scale")
    net.add("ReLU", "relu1")
    net.pool("pool1", kernel_size=3, stride=2, pad=1)

    def norm(name: str, x: str) -> None:
        net.add("BatchNorm", f"{name}/bn", x, top=f"{name}/bn", blobs=_statistics(net, net.channels[x]))
        n = net.channels[x]
        net.add("Scale", f"{name}/scale", blobs=[1 + net._random(n), net._random(n)], bias_term=True)
        net.add("ReLU", f"{name}/relu")

    for stage, depth in enumerate(depths, start=2):
        for i in range(1, depth + 1):
            x = net.last
            norm(f"conv{stage}_{i}/x1", x)
            net.conv(f"conv{stage}_{i}/x1", 4 * growth, 1, relu=False, bias=False)
            norm(f"conv{stage}_{i}/x2", net.last)
            body = net.conv(f"conv{stage}_{i}/x2", growth, 3, relu=False, bias=False, pad=1)
            net.add("Concat", f"concat_{stage}_{i}", x, body, channels=net.channels[x] + growth)
        norm(f"conv{stage}_blk", net.last)
        if stage < len(depths) + 1:
            net.conv(f"conv{stage}_blk", net.channels[net.last] // 2, 1, relu=False, bias=False)
            net.pool(f"pool{stage}", mean=True, kernel_size=2, stride=2)
    net.pool("pool5", mean=True, global_pooling=True)
    net.conv("fc6", classes, 1, relu=False)
    return net


def _statistics(net: CaffeNet, n: int) -> list[torch.Tensor]:
    return [net._random(n), net._random(n).abs() + 0.5, torch.tensor([1.0])]
