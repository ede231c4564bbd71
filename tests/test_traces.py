"""A count leaves nothing behind, wherever a forward keeps something."""

from __future__ import annotations

import collections
import functools
import gc
import types

import pytest
import torch
import torchvision
from torch import nn

import cnnzoo
from cnnzoo.errors import InputError
from cnnzoo.measure import traces

CACHE: dict[object, object] = {}
HIDDEN: dict[str, torch.Tensor] = {}
LAST = None
CALLS = 0


@functools.lru_cache
def mask(n: int) -> torch.Tensor:
    return torch.ones(n, n).tril()


@functools.cache
def masks(n: int) -> dict[str, list[torch.Tensor]]:
    return {"masks": [torch.ones(n, n)]}


def function_with_attribute() -> None:
    pass


class Holder:
    pass


class Slots:
    __slots__ = ("calls", "mask")


class OwnDict(dict):
    pass


class Net(nn.Module):
    """A linear layer, and a product with a mask that is computed once and kept somewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def kept(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) @ self.kept(x)


class InLruCache(Net):
    def kept(self, x):
        return mask(4) + masks(4)["masks"][0]


class InOwnLruCache(Net):
    def __init__(self) -> None:
        super().__init__()
        self.function = functools.lru_cache(lambda n: torch.ones(n, n))
        self.partial = functools.partial(mask, 4)

    @functools.lru_cache  # noqa: B019  # what users write
    def method(self, n):
        return torch.ones(n, n)

    @functools.cached_property
    def attribute(self):
        return torch.ones(4, 4)

    def kept(self, x):
        return self.function(4) + self.partial() + self.method(4) + self.attribute


class InObject(Net):
    def __init__(self) -> None:
        super().__init__()
        self.holder, self.slots, self.space, self.own = Holder(), Slots(), types.SimpleNamespace(calls=0), OwnDict()
        self.holder.inner = collections.deque([{"calls": [0]}])

    def kept(self, x):
        if not hasattr(self.holder, "mask"):
            self.holder.mask = self.slots.mask = self.space.mask = self.own["mask"] = torch.ones(4, 4, device=x.device)
        self.holder.inner[0]["calls"][0] += 1
        self.space.calls += 1
        return self.holder.mask + self.slots.mask + self.space.mask + self.own["mask"]


class InContainers(Net):
    def __init__(self) -> None:
        super().__init__()
        self.cache = {"masks": {}, "sizes": [[], {"seen": set()}]}

    def kept(self, x):
        if 4 not in self.cache["masks"]:
            self.cache["masks"][4] = torch.ones(4, 4, device=x.device)
            self.cache["sizes"][0].append(4)
            self.cache["sizes"][1]["seen"].add(4)
        return self.cache["masks"][4]


class InClass(Net):
    mask = None
    calls = 0
    cache: dict[str, torch.Tensor] = {}  # noqa: RUF012  # what users write

    def kept(self, x):
        InClass.calls += 1
        if InClass.mask is None:
            InClass.mask = self.cache["mask"] = torch.ones(4, 4, device=x.device)
            type(self).new = x
        return InClass.mask


class InGlobals(Net):
    def kept(self, x):
        global LAST, CALLS
        LAST = x
        CALLS += 1
        if 4 not in CACHE:
            CACHE[4] = torch.ones(4, 4, device=x.device)
            CACHE["inputs"] = [x]
        return CACHE[4]


class InBuffer(Net):
    def kept(self, x):
        if not hasattr(self, "mask"):
            self.register_buffer("mask", torch.ones(4, 4, device=x.device), persistent=False)
        return self.mask


class Elsewhere(Net):
    """Where no walk over the module leads."""

    def kept(self, x):
        found = globals()["HIDDEN"]
        if "mask" not in found:
            found["mask"] = torch.ones(4, 4, device=x.device)
        if not hasattr(function_with_attribute, "mask"):
            vars(function_with_attribute)["mask"] = torch.ones(4, 4, device=x.device)
        return found["mask"] + vars(function_with_attribute)["mask"]


class Hooked(Net):
    def __init__(self) -> None:
        super().__init__()
        outputs: list[torch.Tensor] = []
        features: dict[str, torch.Tensor] = {}

        def hook(module, args, out):
            outputs.append(out)
            features["linear"] = out

        self.linear.register_forward_hook(hook)
        object.__setattr__(self, "captured", Holder())
        self.captured.outputs, self.captured.features = outputs, features

    def kept(self, x):
        return torch.ones(4, 4, device=x.device)


def all_state(net: nn.Module) -> dict[str, object]:
    """Returns the states of all places above, with ids in place of tensors."""
    places = {
        "globals": (CACHE, HIDDEN, LAST, CALLS, vars(function_with_attribute)),
        "class": {name: value for name, value in vars(InClass).items() if name != "__doc__"},
        "module": {name: value for name, value in vars(net).items() if name != "function"},
        "objects": [vars(value) for value in vars(net).values() if isinstance(value, (Holder, types.SimpleNamespace))],
        "slots": [getattr(net.slots, name, None) for name in Slots.__slots__] if hasattr(net, "slots") else None,
        "dict": dict(net.own) if hasattr(net, "own") else None,
    }

    def describe(value):
        if isinstance(value, dict):
            return {key: describe(item) for key, item in value.items()}
        if isinstance(value, (list, tuple, collections.deque)):
            return [describe(item) for item in value]
        return id(value) if isinstance(value, (torch.Tensor, nn.Module)) or callable(value) else repr(value)

    return describe(places)


KINDS = (
    InLruCache, InOwnLruCache, InObject, InContainers, InClass, InGlobals, InBuffer, Elsewhere, Hooked,
)  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_places():
    global LAST, CALLS
    yield
    mask.cache_clear()
    masks.cache_clear()
    InOwnLruCache.method.cache_clear()
    for place in (CACHE, HIDDEN, InClass.cache, vars(function_with_attribute)):
        place.clear()
    InClass.mask, InClass.calls, LAST, CALLS = None, 0, None, 0
    if hasattr(InClass, "new"):
        del InClass.new


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("was_called", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left(kind, was_called, meta) -> None:
    net, x = kind().eval(), torch.ones(2, 4)
    first = net(x) if was_called else None
    before = all_state(net)
    assert cnnzoo.count(net, (2, 4), meta=meta).macs >= 2 * 4 * 4 * 2
    assert all_state(net) == before
    out = net(x)
    assert not out.is_meta
    if first is not None:
        assert torch.equal(out, first)


def test_nothing_is_left_by_a_forward_that_raises() -> None:
    class Raises(InObject):
        def kept(self, x):
            super().kept(x)
            mask(4)
            CACHE["x"] = x
            raise RuntimeError("no")

    net = Raises()
    before = all_state(net)
    with pytest.raises(InputError, match="no"):
        cnnzoo.count(net, (2, 4))
    assert all_state(net) == before and mask.cache_info().currsize == 0


def test_what_other_objects_hold_is_kept() -> None:
    mask(3)
    CACHE["mine"] = torch.zeros(1)
    cnnzoo.count(InGlobals(), (2, 4))
    cnnzoo.count(Elsewhere(), (2, 4))
    assert list(CACHE) == ["mine"] and mask.cache_info().currsize == 1


def test_tensors_that_cannot_be_removed_are_an_error() -> None:
    class Immutable(Net):
        def kept(self, x):
            self.linear.register_forward_hook(lambda *_: None)
            HIDDEN.setdefault("tuples", []).append((x * 1,))
            return torch.ones(4, 4, device=x.device)

    class InTuple(Net):
        def kept(self, x):
            globals()["HIDDEN"]["tuple"] = (x * 1,)
            return torch.ones(4, 4, device=x.device)

    cnnzoo.count(Immutable(), (2, 4))
    assert HIDDEN == {}
    with pytest.raises(InputError, match="InTuple keeps tensors that its forward computes outside of the module"):
        cnnzoo.count(InTuple(), (2, 4))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class WithUnusedGraph(Net):
    """The backward runs, and does not reach what the result does not depend on, as in detection networks."""

    def kept(self, x):
        self.linear(x).relu()
        return Doubled.apply(self.linear.weight)


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("kind", [InBuffer, WithUnusedGraph])
def test_nothing_is_kept_alive(kind, meta) -> None:
    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(x), torch.Tensor) for x in gc.get_objects())

    net = kind()
    before = tensors()
    assert cnnzoo.count(net, (2, 4), meta=meta).unknown_ops == ()
    assert tensors() == before


def test_deques_and_objects_that_no_walk_finds() -> None:
    class Hidden(Net):
        def kept(self, x):
            globals()["HIDDEN"]["holder"].last = x * 1
            globals()["HIDDEN"]["deque"].extend([torch.ones(4, 4, device=x.device), x * 1])
            globals()["HIDDEN"]["deque"].appendleft(x * 1)
            return torch.ones(4, 4, device=x.device)

    HIDDEN["deque"], HIDDEN["holder"] = collections.deque([mine := torch.zeros(4, 4)]), Holder()
    cnnzoo.count(Hidden(), (2, 4))
    assert list(HIDDEN["deque"]) == [mine] and vars(HIDDEN["holder"]) == {}


def test_constants_outside_of_the_module() -> None:
    constant = torch.ones(2, 4)

    class Adds(Net):
        def forward(self, x):
            return self.linear(torch.cat([x + constant, constant.mul(2)]))

    assert cnnzoo.count(Adds(), (2, 4)).macs == 4 * 4 * 4


def test_sharded_modules_are_refused() -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        net, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.ones(2, 4)
        fully_shard(net[0], mesh=init_device_mesh("cpu", (1,)))
        first = net(x)
        with pytest.raises(
            InputError, match=r"0 of Sequential is sharded by FSDP; count the module before fully_shard"
        ):
            cnnzoo.count(net, (2, 4))
        assert torch.equal(net(x), first)
    finally:
        dist.destroy_process_group()


def test_classes_of_torch_are_not_recorded() -> None:
    snapshot = traces._Snapshot()
    snapshot.add_model(torchvision.models.alexnet())
    assert [kind.__name__ for kind, _ in snapshot._classes] == ["AlexNet"]


QUICK = {"alexnet", "shufflenet_v2_x0_5", "squeezenet1_1", "mnasnet0_5"}
SIZES = {"inception_v3": 299}
SEGMENTATION = torchvision.models.list_models(module=torchvision.models.segmentation)


def small_names() -> list[object]:
    names = torchvision.models.list_models(module=torchvision.models)
    names += SEGMENTATION
    names += torchvision.models.list_models(module=torchvision.models.video)
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


def check_next_forward(net: nn.Module, shape: tuple[int, ...]) -> None:
    """Checks that the next real forward after a count gives bit-equal outputs, and that the state is the same."""
    net.eval()
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))

    def outputs() -> list[torch.Tensor]:
        with torch.no_grad():
            return [y for y in torch.utils._pytree.tree_leaves(net(x)) if isinstance(y, torch.Tensor)]

    state = {name: (id(x), x.clone()) for name, x in net.state_dict(keep_vars=True).items()}
    first = outputs()
    cnnzoo.count(net, shape)
    assert all(torch.equal(a, b) for a, b in zip(first, outputs(), strict=True))
    after = net.state_dict(keep_vars=True)
    assert list(after) == list(state) and all(id(after[name]) == state[name][0] for name in state)
    assert all(torch.equal(after[name], value) for name, (_, value) in state.items())


@pytest.mark.parametrize("name", small_names())
def test_next_forward_of_torchvision(name) -> None:
    options = {"weights_backbone": None} if name in SEGMENTATION else {}
    options |= {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    net = torchvision.models.get_model(name, weights=None, **options)
    is_video = type(net).__module__.startswith("torchvision.models.video")
    is_swin_video = is_video and type(net).__name__ != "VideoResNet"
    side = 224 if is_swin_video or name.startswith(("vit", "maxvit", "swin")) else SIZES.get(name, 64)
    check_next_forward(net, (1, 3, 16, side, side) if is_video else (1, 3, side, side))


@pytest.mark.slow
def test_next_forward_of_timm() -> None:
    timm = pytest.importorskip("timm")
    families = {timm.models._registry._model_to_module[name]: name for name in sorted(timm.list_models(), reverse=True)}
    failed = {}
    for name in families.values():
        with torch.device("meta"):
            net = timm.create_model(name)
        if sum(parameter.numel() for parameter in net.parameters()) < 60e6:
            try:
                net = timm.create_model(name)
                check_next_forward(net, (1, *net.pretrained_cfg["input_size"]))
            except Exception as error:
                failed[name] = repr(error)[:200]
    assert failed == {}
