"""Receptive fields against a referee: with positive weights, the extent of the gradient of one output position."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from calls import Calls
from torch import nn

import cnnzoo

CASES = {}


def case(name, net, shape, channels=1, positions=None):
    CASES[name] = net, shape, channels, positions


def conv(kernel_size=3, in_channels=2, out_channels=2, **kwargs) -> nn.Module:
    return nn.Conv2d(in_channels, out_channels, kernel_size, **kwargs)


def measured(net: nn.Module, shape: tuple[int, ...], channels: int, positions: tuple[int, ...] | None) -> int:
    """Returns the largest extent, along one axis, of the gradients of output positions in the middle.

    Args:
        net: The network.
        shape: Shape of its input.
        channels: Dimension of the input that holds channels.
        positions: Dimensions of the output that hold positions; by default all from 2 on.
    """
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    x = torch.rand(shape, requires_grad=True)
    out = net(x)
    out = out[0] if isinstance(out, tuple) else out
    dims = range(2, out.dim()) if positions is None else positions
    largest = 0
    for moving in dims or [None]:
        n = out.shape[moving] if moving is not None else 1
        for i in range(max(n // 2 - 2, 0), min(n // 2 + 3, n)):
            index = [slice(None) if d not in dims else out.shape[d] // 2 for d in range(out.dim())]
            index[0] = 0
            if moving is not None:
                index[moving] = i
            (gradient,) = torch.autograd.grad(out[tuple(index)].sum(), x, retain_graph=True)
            for d in range(1, x.dim()):
                if d != channels and len(seen := gradient.abs().sum([e for e in range(x.dim()) if e != d]).nonzero()):
                    largest = max(largest, int(seen.max() - seen.min() + 1))
    return largest


IMAGE = (1, 2, 32, 32)
GRID = nn.Parameter(torch.rand(1, 8, 8, 2))
case("conv", nn.Sequential(conv(), conv()), IMAGE)
case("conv pad", nn.Sequential(conv(padding=1), conv(5, padding=2)), IMAGE)
case("stride", nn.Sequential(conv(stride=2), conv(3, dilation=2), conv()), (1, 2, 48, 48))
case("same pad even", nn.Sequential(conv(5, padding="same"), conv(3, padding="same")), IMAGE)
case("pools", nn.Sequential(conv(), nn.MaxPool2d(2), conv(), nn.AvgPool2d(3, 2, 1), conv()), (1, 2, 64, 64))
case("pool dil", nn.Sequential(nn.MaxPool2d(3, 1, dilation=2), nn.AvgPool2d(2)), IMAGE)
case("ceil", nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), conv()), IMAGE)
case("lppool", nn.Sequential(nn.LPPool2d(2, 3, 2), conv()), IMAGE)
case("adaptive 8", nn.Sequential(conv(), nn.AdaptiveAvgPool2d(7), conv(2)), IMAGE)
case("adaptive odd", nn.Sequential(nn.AdaptiveAvgPool2d(5), conv(2)), IMAGE)
for m in ("nearest", "nearest-exact", "bilinear", "bicubic"):
    case(
        f"{m} x2",
        nn.Sequential(conv(), Calls(lambda s, x, m=m: F.interpolate(x, scale_factor=2, mode=m)), conv()),
        IMAGE,
    )
    case(
        f"{m} x3 even",
        nn.Sequential(conv(), Calls(lambda s, x, m=m: F.interpolate(x, scale_factor=3, mode=m)), conv(2), conv(4)),
        IMAGE,
    )
    case(
        f"{m} size",
        nn.Sequential(conv(), Calls(lambda s, x, m=m: F.interpolate(x, size=(47, 50), mode=m)), conv()),
        IMAGE,
    )
    case(
        f"{m} down",
        nn.Sequential(conv(padding=1), Calls(lambda s, x, m=m: F.interpolate(x, scale_factor=0.5, mode=m)), conv()),
        IMAGE,
    )
case(
    "align corners",
    nn.Sequential(
        conv(), Calls(lambda s, x: F.interpolate(x, size=(59, 59), mode="bilinear", align_corners=True)), conv()
    ),
    IMAGE,
)
case(
    "aa",
    nn.Sequential(conv(), Calls(lambda s, x: F.interpolate(x, size=(10, 10), mode="bilinear", antialias=True)), conv()),
    IMAGE,
)
case("area", Calls(lambda s, x: F.interpolate(x, size=(10, 10), mode="area")), IMAGE)
case("transposed", nn.Sequential(conv(stride=2), nn.ConvTranspose2d(2, 2, 2, stride=2), conv()), IMAGE)
case("transposed 4/2", nn.Sequential(conv(stride=2, padding=1), nn.ConvTranspose2d(2, 2, 4, 2, 1), conv()), IMAGE)
case(
    "transposed 3/2 op",
    nn.Sequential(conv(stride=2, padding=1), nn.ConvTranspose2d(2, 2, 3, 2, 1, output_padding=1), conv()),
    IMAGE,
)
case(
    "transposed 5/3 d",
    nn.Sequential(conv(stride=3), nn.ConvTranspose2d(2, 2, 3, 3, dilation=2), conv()),
    (1, 2, 40, 40),
)
case("transposed groups", nn.Sequential(nn.ConvTranspose2d(2, 2, 4, 2, 1, groups=2), conv()), IMAGE)


class UNet(nn.Module):
    def __init__(s, up, pad=1):
        super().__init__()
        s.a, s.b, s.c, s.d, s.e = (
            conv(padding=pad),
            conv(padding=pad),
            conv(padding=pad),
            conv(3, 4, 2, padding=pad),
            conv(3, 4, 2, padding=pad),
        )
        s.up = up

    def forward(s, x):
        a = s.a(x)
        b = s.b(F.max_pool2d(a, 2))
        c = s.c(F.max_pool2d(b, 2))

        def cat(u, v):
            m = (v.shape[-1] - u.shape[-1]) // 2
            if m:
                v = v[:, :, m : m + u.shape[-2], m : m + u.shape[-1]]
            return torch.cat([u, v], 1)

        d = s.d(cat(s.up(c), b))
        return s.e(cat(s.up(d), a))


case("unet nearest", UNet(nn.Upsample(scale_factor=2)), (1, 2, 48, 48))
case("unet bilinear", UNet(nn.Upsample(scale_factor=2, mode="bilinear")), (1, 2, 48, 48))
case("unet transposed", UNet(nn.ConvTranspose2d(2, 2, 2, 2)), (1, 2, 48, 48))
case("unet crop", UNet(nn.ConvTranspose2d(2, 2, 2, 2), pad=0), (1, 2, 92, 92))
case("pixel shuffle", nn.Sequential(conv(3, 2, 8), nn.PixelShuffle(2), conv()), IMAGE)
case("pixel shuffle 3", nn.Sequential(conv(3, 2, 18), nn.PixelShuffle(3), conv(2), conv(2)), IMAGE)
case("pixel unshuffle", nn.Sequential(nn.PixelUnshuffle(2), conv(3, 8, 2), conv()), IMAGE)
case("un/shuffle", nn.Sequential(nn.PixelUnshuffle(2), conv(3, 8, 8), nn.PixelShuffle(2), conv()), IMAGE)
case(
    "unshuffle depthwise",
    nn.Sequential(nn.PixelUnshuffle(2), conv(3, 8, 8, groups=8), nn.PixelShuffle(2), conv()),
    IMAGE,
)
case(
    "shuffle by hand",
    nn.Sequential(
        conv(3, 2, 8),
        Calls(
            lambda s, x: x.reshape(1, 2, 2, 2, *x.shape[2:]).permute(0, 1, 4, 2, 5, 3).reshape(1, 2, 2 * x.shape[2], -1)
        ),
        conv(),
    ),
    IMAGE,
)
case(
    "space to depth by hand",
    nn.Sequential(
        Calls(lambda s, x: torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)),
        conv(3, 8, 2),
    ),
    IMAGE,
)
case("strided slice", nn.Sequential(conv(), Calls(lambda s, x: x[:, :, ::2, 1::3]), conv()), IMAGE)
case("crop", nn.Sequential(conv(padding=1), Calls(lambda s, x: x[:, :, 3:-3, 5:]), conv()), IMAGE)
case("flip", nn.Sequential(conv(padding=1), Calls(lambda s, x: x.flip(2)), conv(stride=2)), IMAGE)
case("roll", nn.Sequential(conv(padding=1), Calls(lambda s, x: x.roll(3, 2)), conv()), IMAGE)
case("residual", Calls(lambda s, x: x + s.b(F.relu(s.a(x))), a=conv(padding=1), b=conv(padding=1)), IMAGE)
case(
    "residual stride",
    nn.Sequential(
        Calls(
            lambda s, x: s.c(x) + s.b(F.relu(s.a(x))),
            a=conv(5, padding=2, stride=2),
            b=conv(padding=1),
            c=conv(1, stride=2),
        ),
        conv(),
    ),
    IMAGE,
)
case(
    "inception",
    nn.Sequential(
        Calls(lambda s, x: torch.cat([s.a(x), s.b(x), F.max_pool2d(x, 3, 1, 1)], 1), a=conv(1), b=conv(5, padding=2)),
        conv(3, 6, 2),
    ),
    IMAGE,
)
case(
    "dense",
    nn.Sequential(
        *[Calls(lambda s, x: torch.cat([x, s.a(x)], 1), a=conv(3, 2 * 2**i, 2 * 2**i, padding=1)) for i in range(3)]
    ),
    IMAGE,
)
case(
    "se",
    nn.Sequential(
        conv(padding=1),
        Calls(lambda s, x: x * torch.sigmoid(s.a(x.mean((2, 3), keepdim=True))), a=conv(1)),
        conv(padding=1),
    ),
    (1, 2, 16, 16),
)
case("groupnorm", nn.Sequential(conv(1), nn.GroupNorm(1, 2), conv(1)), (1, 2, 16, 16))
case("instancenorm", nn.Sequential(conv(1), nn.InstanceNorm2d(2)), (1, 2, 16, 16))
case("batchnorm eval", nn.Sequential(conv(), nn.BatchNorm2d(2), nn.ReLU(), conv()), IMAGE)
case("flatten linear", nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(2 * 64, 3)), IMAGE)
case("flatten2 linear", nn.Sequential(nn.AvgPool2d(4), nn.Flatten(2), nn.Linear(64, 3)), IMAGE)
case("flatten2 mean", nn.Sequential(conv(1), nn.Flatten(2), Calls(lambda s, x: x.mean(2))), IMAGE)
case("gap", nn.Sequential(nn.Conv2d(2, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)), IMAGE)
case(
    "nhwc linear",
    nn.Sequential(
        conv(stride=2),
        Calls(lambda s, x: x.permute(0, 2, 3, 1)),
        nn.LayerNorm(2),
        nn.Linear(2, 4),
        nn.GELU(),
        nn.Linear(4, 2),
        Calls(lambda s, x: x.permute(0, 3, 1, 2)),
        conv(),
    ),
    IMAGE,
)
case(
    "convnext",
    Calls(
        lambda s, x: s.d(x + s.p(s.n(s.c(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)),
        c=conv(7, padding=3, groups=2),
        n=nn.LayerNorm(2),
        p=nn.Sequential(nn.Linear(2, 8), nn.GELU(), nn.Linear(8, 2)),
        d=conv(2, stride=2),
    ),
    IMAGE,
)
case("channels last", nn.Sequential(conv(), conv(stride=2)).to(memory_format=torch.channels_last), IMAGE)
case("nhwc input", nn.Sequential(Calls(lambda s, x: x.permute(0, 3, 1, 2)), conv(), conv()), (1, 32, 32, 2), channels=3)
case(
    "nhwc linear input",
    nn.Sequential(nn.Linear(2, 4), Calls(lambda s, x: x.permute(0, 3, 1, 2)), conv(3, 4, 2)),
    (1, 32, 32, 2),
    channels=3,
)
case(
    "1d",
    nn.Sequential(nn.Conv1d(2, 2, 3, stride=2), nn.MaxPool1d(2), nn.Conv1d(2, 2, 3, dilation=2), nn.AvgPool1d(2)),
    (1, 2, 128),
)
case(
    "1d up",
    nn.Sequential(nn.Conv1d(2, 2, 3), nn.Upsample(scale_factor=2, mode="linear"), nn.Conv1d(2, 2, 4)),
    (1, 2, 40),
)
case("1d transposed", nn.Sequential(nn.Conv1d(2, 2, 4, 2, 1), nn.ConvTranspose1d(2, 2, 4, 2, 1)), (1, 2, 40))
case(
    "tcn",
    nn.Sequential(
        *[nn.Sequential(nn.ConstantPad1d((2 * d, 0), 0.0), nn.Conv1d(2, 2, 3, dilation=d)) for d in (1, 2, 4)]
    ),
    (1, 2, 64),
)
case("3d", nn.Sequential(nn.Conv3d(2, 2, 3, stride=2), nn.MaxPool3d(2), nn.Conv3d(2, 2, (1, 2, 1))), (1, 2, 16, 16, 16))
case(
    "3d up",
    nn.Sequential(nn.Conv3d(1, 1, 3, padding=1), nn.Upsample(scale_factor=2), nn.Conv3d(1, 1, 3)),
    (1, 1, 8, 8, 8),
)
case("(2+1)d", nn.Sequential(nn.Conv3d(1, 1, (1, 3, 3)), nn.Conv3d(1, 1, (3, 1, 1))), (1, 1, 8, 9, 9))
case("lrn", nn.Sequential(conv(), nn.LocalResponseNorm(2), conv()), IMAGE)
case("reflect", nn.Sequential(nn.ReflectionPad2d(1), conv(), conv(padding=1, padding_mode="reflect")), IMAGE)
case("circular", nn.Sequential(conv(padding=1, padding_mode="circular"), conv()), IMAGE)
case(
    "zero pad slices",
    nn.Sequential(
        Calls(
            lambda s, x: (lambda z: (z.__setitem__((slice(None), slice(None), slice(1, -1), slice(2, -2)), x), z)[1])(
                torch.zeros(1, 2, x.shape[2] + 2, x.shape[3] + 4)
            )
        ),
        conv(5),
    ),
    IMAGE,
)
case(
    "zero insert",
    nn.Sequential(
        conv(),
        Calls(
            lambda s, x: (lambda z: (z.__setitem__((Ellipsis, slice(0, None, 2), slice(0, None, 2)), x), z)[1])(
                torch.zeros(1, 2, x.shape[2] * 2, x.shape[3] * 2)
            )
        ),
        conv(),
    ),
    IMAGE,
)


def interleave(s, x):
    a, b = s.a(x), s.b(x)
    z = torch.zeros(*x.shape[:3], 2 * x.shape[3], dtype=x.dtype, device=x.device)
    z[..., 0::2] = a
    z[..., 1::2] = b
    return z


case("interleave", nn.Sequential(Calls(interleave, a=conv(padding=1), b=conv(5, padding=2)), conv(2)), IMAGE)
case(
    "stack interleave",
    nn.Sequential(conv(padding=1), Calls(lambda s, x: torch.stack([x, x], -1).flatten(-2)), conv((1, 3))),
    IMAGE,
)
case(
    "repeat interleave",
    nn.Sequential(conv(), Calls(lambda s, x: x.repeat_interleave(2, 2).repeat_interleave(2, 3)), conv()),
    IMAGE,
)
case(
    "unfold conv",
    nn.Sequential(
        Calls(lambda s, x: F.unfold(x, 3, padding=1)),
        Calls(lambda s, x: (s.l(x.transpose(1, 2))).transpose(1, 2).reshape(1, 2, 32, 32), l=nn.Linear(18, 2)),
        conv(),
    ),
    IMAGE,
)
case(
    "tensor unfold", nn.Sequential(Calls(lambda s, x: x.unfold(2, 4, 2).unfold(3, 4, 2).mean((-1, -2))), conv()), IMAGE
)


class ViT(nn.Module):
    def __init__(s, n=1, mha=False):
        super().__init__()
        s.p = nn.Conv2d(2, 8, 4, 4)
        s.cls = nn.Parameter(torch.rand(1, 1, 8))
        s.pos = nn.Parameter(torch.rand(1, 17, 8))
        s.n = nn.LayerNorm(8)
        s.qkv = nn.Linear(8, 24)
        s.o = nn.Linear(8, 8)
        s.m = nn.MultiheadAttention(8, 2, batch_first=True) if mha else None

    def forward(s, x):
        t = s.p(x).flatten(2).transpose(1, 2)
        t = torch.cat([s.cls, t], 1) + s.pos
        h = s.n(t)
        if s.m:
            return s.m(h, h, h)[0] + t
        q, k, v = s.qkv(h).reshape(1, 17, 3, 2, 4).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 17, 8)
        return t + s.o(a)


case("vit", ViT(), (1, 2, 16, 16), positions=(1,))
case("vit mha", ViT(mha=True), (1, 2, 16, 16), positions=(1,))
case(
    "vit patch tokens",
    nn.Sequential(ViT(), Calls(lambda s, x: x[:, 1:].transpose(1, 2).reshape(1, 8, 4, 4)), nn.Conv2d(8, 2, 1)),
    (1, 2, 16, 16),
)
case(
    "mlp mixer",
    Calls(
        lambda s, x: (lambda t: t + s.m(t.transpose(1, 2)).transpose(1, 2))(s.p(x).flatten(2).transpose(1, 2)),
        p=nn.Conv2d(2, 8, 4, 4),
        m=nn.Linear(16, 16),
    ),
    (1, 2, 16, 16),
    positions=(1,),
)
case(
    "channel mixing only",
    nn.Sequential(
        nn.Conv2d(2, 8, 4, 4),
        Calls(lambda s, x: s.m(x.flatten(2).transpose(1, 2)), m=nn.Linear(8, 8)),
        Calls(lambda s, x: x.transpose(1, 2).unflatten(2, (4, 4))),
        nn.Conv2d(8, 2, 2),
    ),
    (1, 2, 16, 16),
)


def window(s, x):
    t = x.permute(0, 2, 3, 1)
    b, h, w, c = t.shape
    if s.shift:
        t = t.roll((-s.shift, -s.shift), (1, 2))
    u = t.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
    u = (
        F.scaled_dot_product_attention(u[:, None], u[:, None], u[:, None])[:, 0]
        if s.shift == 0
        else torch.softmax(u @ u.transpose(1, 2), -1) @ u
    )
    t = u.view(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
    if s.shift:
        t = t.roll((s.shift, s.shift), (1, 2))
    return x + t.permute(0, 3, 1, 2)


case("windows", nn.Sequential(conv(2, stride=2), Calls(window, shift=0)), (1, 2, 64, 64))
case("shifted windows", nn.Sequential(Calls(window, shift=0), Calls(window, shift=2)), (1, 2, 32, 32))
case(
    "windows merge",
    nn.Sequential(
        Calls(window, shift=0), Calls(lambda s, x: torch.cat([x[..., ::2, ::2], x[..., 1::2, 1::2]], 1)), conv(2, 4, 2)
    ),
    (1, 2, 32, 32),
)
case(
    "axial attention",
    Calls(lambda s, x: (lambda t: F.scaled_dot_product_attention(t, t, t).permute(0, 3, 1, 2))(x.permute(0, 2, 3, 1))),
    (1, 2, 8, 32),
)
case("gram", nn.Sequential(conv(), Calls(lambda s, x: x.flatten(2) @ x.flatten(2).transpose(1, 2))), (1, 2, 16, 16))
case(
    "nonlocal",
    Calls(
        lambda s, x: (
            x
            + (torch.softmax(x.flatten(2).transpose(1, 2) @ x.flatten(2), -1) @ x.flatten(2).transpose(1, 2))
            .transpose(1, 2)
            .view_as(x)
        )
    ),
    (1, 2, 8, 8),
)
case(
    "fft",
    Calls(lambda s, x: torch.fft.irfft2(torch.fft.rfft2(x) * s.w), w=nn.Parameter(torch.rand(8, 5))),
    (1, 2, 8, 8),
)
case("transformer", nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), (1, 7, 4), channels=2, positions=(1,))
case("asymmetric", nn.Sequential(conv((1, 7)), conv((5, 1)), conv(1)), IMAGE)
case(
    "shuffle net",
    nn.Sequential(conv(1, 2, 4, groups=2), nn.ChannelShuffle(2), conv(3, 4, 4, groups=4), conv(1, 4, 2)),
    IMAGE,
)
case(
    "split",
    nn.Sequential(
        Calls(lambda s, x: torch.cat([x[:, :1], s.a(x[:, 1:])], 1), a=conv(3, 1, 1, padding=1)),
        nn.ChannelShuffle(2),
        conv(),
    ),
    IMAGE,
)
case(
    "hourglass",
    Calls(lambda s, x: x + F.interpolate(s.a(F.avg_pool2d(x, 4)), scale_factor=4), a=conv(padding=1)),
    (1, 2, 64, 64),
)
case(
    "fpn",
    Calls(
        lambda s, x: (lambda a, b: a + F.interpolate(b, size=a.shape[-2:]))(s.a(x), s.b(s.a(x))),
        a=conv(padding=1, stride=2),
        b=conv(padding=1, stride=2),
    ),
    (1, 2, 49, 49),
)
case(
    "aspp",
    nn.Sequential(
        Calls(
            lambda s, x: torch.cat([c(x) for c in s.c], 1),
            c=nn.ModuleList([conv(padding=d, dilation=d) for d in (1, 2, 4)]),
        ),
        conv(1, 6, 2),
    ),
    IMAGE,
)
case("glu", nn.Sequential(conv(3, 2, 4), nn.GLU(1), conv()), IMAGE)
case(
    "blur",
    nn.Sequential(
        conv(),
        Calls(
            lambda s, x: F.conv2d(
                F.pad(x, (1, 1, 1, 1), mode="reflect"),
                torch.ones(2, 1, 3, 3, dtype=x.dtype, device=x.device) / 9,
                stride=2,
                groups=2,
            )
        ),
        conv(),
    ),
    IMAGE,
)


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", CASES)
def test_receptive_field(name) -> None:
    net, shape, channels, positions = CASES[name]
    net = net.double().eval()
    layer = cnnzoo.count(net, shape).layers[-1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        size = measured(net, shape, channels, positions)
    side = max(n for d, n in enumerate(shape) if d not in (0, channels))
    assert layer.receptive_field_unknown == ""
    # the whole image: fields are not clipped at its border
    assert layer.receptive_field == size or layer.receptive_field > size == side


def last_layer(net: nn.Module, *shape: int):
    return cnnzoo.count(net, shape).layers[-1]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda net, x: F.grid_sample(x, net.grid, align_corners=False), "aten.grid_sampler_2d: positions that depend"),
        (lambda net, x: x[:, :, torch.arange(5, device=x.device)], "aten.index: positions that depend on values"),
        (lambda net, x: F.fold(F.unfold(x, 3, padding=1), (32, 32), 3, padding=1), "aten.col2im"),
        (lambda net, x: net.conv(F.fold(F.unfold(x, 3, padding=1), (32, 32), 3, padding=1)), "aten.col2im"),
        (lambda net, x: x.flatten(2)[:, :, :-24].reshape(1, 2, 25, 40), "a reshape that cuts rows"),
    ],
)
def test_unknown_positions_have_a_reason(function, reason) -> None:
    layer = last_layer(Calls(function, conv=conv(), grid=nn.Parameter(torch.rand(1, 8, 8, 2))), *IMAGE)
    assert layer.receptive_field is None
    assert layer.receptive_field_unknown.startswith(reason)


def test_the_table_says_why() -> None:
    net = Calls(
        lambda net, x: net.conv(F.grid_sample(x, net.grid, align_corners=True)), conv=conv(), grid=GRID
    ).double()
    text = " ".join(str(cnnzoo.count(net, IMAGE)).split())
    assert "receptive field: unknown from Calls on (aten.grid_sampler_2d: positions that depend on values)" in text
    assert "None" not in text


def test_a_layer_that_sees_all_makes_positions_known_again_only_if_they_are() -> None:
    sampled = Calls(
        lambda net, x: F.grid_sample(x, net.grid, align_corners=True), grid=nn.Parameter(torch.rand(1, 8, 8, 2))
    )
    assert last_layer(nn.Sequential(sampled, nn.AdaptiveAvgPool2d(1)), *IMAGE).receptive_field is None
    pooled = Calls(
        lambda net, x: F.grid_sample(x.mean((2, 3), keepdim=True), net.grid, align_corners=True), grid=sampled.grid
    )
    assert last_layer(pooled, *IMAGE).receptive_field == 32


def test_channels_need_no_positions() -> None:
    mirrored = Calls(lambda net, x: net.conv(x[:, torch.arange(1, -1, -1, device=x.device)]), conv=conv())
    assert last_layer(mirrored, *IMAGE).receptive_field == 3
    picked = Calls(lambda net, x: net.conv(x).index_select(1, torch.tensor([1], device=x.device)), conv=conv())
    assert last_layer(picked, *IMAGE).receptive_field == 3


def test_positions_in_the_middle() -> None:
    assert last_layer(Calls(lambda net, x: x.cumsum(-1)), 1, 2, 9).receptive_field == 5
    lstm = Calls(lambda net, x: net.lstm(x)[0], lstm=nn.LSTM(3, 4, batch_first=True))
    assert last_layer(lstm, 1, 11, 3).receptive_field == 6
    assert last_layer(nn.LSTM(3, 4, bidirectional=True), 11, 1, 3).receptive_field == 11


def test_inputs_without_positions() -> None:
    layer = last_layer(nn.Linear(4, 3), 5, 4)
    assert (layer.receptive_field, layer.receptive_field_unknown) == (None, "")
    tokens = cnnzoo.count(nn.Embedding(9, 4), inputs=torch.zeros(2, 7, dtype=torch.long)).layers[-1]
    assert tokens.receptive_field == 1


def test_images_have_no_border() -> None:
    import torchvision

    with torch.device("meta"):
        nets = torchvision.models.vgg16(), torchvision.models.resnet50(), torchvision.models.vit_b_32()
    fields = [[layer.receptive_field for layer in cnnzoo.count(net.eval(), (1, 3, 224, 224)).layers] for net in nets]
    assert fields[0][-1] == 404 and 212 in fields[0]
    assert fields[1][-1] == 427 + 6 * 32
    assert fields[2][0] == 32 and fields[2][-1] == 224
