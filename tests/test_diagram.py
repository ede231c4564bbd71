"""Diagrams of architectures: their nodes, levels of detail, geometry and files."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import cnnzoo
from cnnzoo.blocks import (
    LRN,
    Activation,
    AdaptiveAvgPool,
    AvgPool,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Logits,
    MaxPool,
    Parallel,
)
from cnnzoo.cli import main
from cnnzoo.errors import FileError, InputError, UnknownNameError
from cnnzoo.measure import Diagram
from cnnzoo.measure.architecture import Node, layer_graph
from cnnzoo.measure.architecture_levels import block_graph, stage_graph, stage_name
from cnnzoo.measure.diagram import DETAILS
from cnnzoo.measure.diagram_tiles import SHOWN, count_towers
from cnnzoo.measure.drawing import LIGHT, Line, Polygon, Text, _advance, text_width, wrap_text
from cnnzoo.measure.drawing_files import tex_text
from cnnzoo.measure.series_parallel import Split, Tangle, decompose, drawn_edges, nodes_of

ROOT = Path(__file__).parents[1]


def names(nodes: Sequence[Node]) -> list[str]:
    return ["/".join(node.name) for node in nodes]


def texts(diagram: Diagram) -> list[str]:
    return [shape.text for shape in diagram.drawing.shapes if isinstance(shape, Text)]


@pytest.fixture(scope="module")
def branchy() -> cnnzoo.Spec:
    path = (Conv(4, kernel_size=3, padding=1), Conv(4, kernel_size=3, padding=1, activation=None))
    inner = Parallel(((Conv(2, kernel_size=1),), (MaxPool(3, stride=1, padding=1), Conv(6, kernel_size=1))))
    blocks = (
        Conv(4, kernel_size=3, padding=1, norm="batch"),
        Parallel(((), path), merge="add", activation="relu"),
        Parallel(((inner, Dropout(0.5), Conv(4, kernel_size=1)), (Conv(4, kernel_size=1),)), merge="add"),
        AdaptiveAvgPool(1),
        Flatten(),
        Dropout(0.5),
    )
    return cnnzoo.Spec("branchy", (1, 16, 16), blocks, (Dense(5, activation="tanh"), Dropout(0.1), Logits(3)))


# --- nodes ---


def test_nodes_of_a_chain() -> None:
    nodes = layer_graph(cnnzoo.count("alexnet"))
    assert names(nodes) == "input conv1 pool1 conv2 pool2 conv3 conv4 conv5 pool5 fc6 fc7 fc8".split()
    assert [node.inputs for node in nodes] == [(), *((i,) for i in range(11))]
    conv1 = nodes[1]
    assert (conv1.kind, conv1.kernel, conv1.stride, conv1.activation) == (
        "conv",
        "11\N{MULTIPLICATION SIGN}11",
        "4",
        "ReLU",
    )
    assert (conv1.params, nodes[2].op, nodes[2].stride) == (11_712, "max", "2")
    assert nodes[1].shape_text == "96@54\N{MULTIPLICATION SIGN}54" and nodes[-1].shape_text == "10"


def test_nodes_of_branches(branchy: cnnzoo.Spec) -> None:
    nodes = layer_graph(cnnzoo.count(branchy))
    assert [(node.kind, "/".join(node.name), node.inputs) for node in nodes] == [
        ("input", "input", ()),
        ("conv", "conv1", (0,)),
        ("conv", "block2/conv1", (1,)),
        ("conv", "block2/conv2", (2,)),
        ("add", "block2", (1, 3)),  # where the shortcut meets the path
        ("conv", "block3/block1/conv1", (4,)),
        ("pool", "block3/block1/pool1", (4,)),
        ("conv", "block3/block1/conv2", (6,)),
        ("concat", "block3/block1", (5, 7)),
        ("conv", "block3/conv2", (8,)),
        ("conv", "block3/conv3", (4,)),
        ("add", "block3", (9, 10)),
        ("pool", "pool3", (11,)),
        ("dense", "fc4", (12,)),
        ("dense", "fc5", (13,)),
    ]
    assert nodes[1].norm == "BN" and nodes[4].activation == "ReLU" and nodes[12].op == "global mean"
    assert sum(node.params for node in nodes) == cnnzoo.count(branchy).params.total


def test_a_connection_table_is_one_node() -> None:
    nodes = layer_graph(cnnzoo.count("lenet5_1998"))
    assert names(nodes) == "input C1 S2 C3 S4 C5 F6 output".split()
    assert (nodes[3].op, nodes[3].params, nodes[3].groups) == ("connection table", 1_516, 1)


@pytest.mark.parametrize("name", cnnzoo.list_models())
def test_every_parameter_is_in_a_node_at_every_level(name: str) -> None:
    report = cnnzoo.count(name)
    layers = layer_graph(report)
    assert not any("drop" in node.name[-1] or "flatten" in node.name[-1] for node in layers)
    for nodes in (layers, block_graph(layers), stage_graph(layers)):
        assert sum(node.params for node in nodes) == report.params.total
        assert sum(node.macs for node in nodes) == report.macs
        assert math.prod(nodes[-1].shape) == math.prod(report.layers[-1].out_shape[1:])


def test_operations_of_any_module() -> None:
    """A sum of any module may be a product: it is not drawn as a sum."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.drop = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Dropout()
            self.up, self.head = nn.Upsample(scale_factor=2), nn.Linear(8 * 8 * 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.drop(self.b(self.a(x)).relu())
            y = torch.cat([y * self.a(x), y], 1)
            return self.head(self.up(y).flatten(1))

    nodes = layer_graph(cnnzoo.count(Net(), (1, 1, 4, 4)))
    assert [node.kind for node in nodes].count("join") == 1 and "add" not in {node.kind for node in nodes}
    assert ("other", "Upsample") in {(node.kind, node.op) for node in nodes} and nodes[-1].kind == "dense"
    with pytest.raises(InputError, match="draw needs one input"):
        cnnzoo.draw(nn.Linear(3, 2), input_size=(1, 2, 3))


# --- levels ---


def test_resnet50_has_eight_stages() -> None:
    stages = stage_graph(layer_graph(cnnzoo.count("resnet50")))
    assert names(stages) == "input conv1 pool1 layer1 layer2 layer3 layer4 avgpool fc".split()
    assert [node.repeats for node in stages if node.kind == "block"] == [3, 4, 6, 3]


def test_stages_end_where_maps_shrink_or_names_change() -> None:
    stages = stage_graph(layer_graph(cnnzoo.count("densenet121")))
    assert [name for name in names(stages) if name.startswith("dense")] == [f"denseblock{i}" for i in (1, 2, 3, 4)]
    dash = "\N{EN DASH}"
    assert f"conv3{dash}conv5" in names(stage_graph(layer_graph(cnnzoo.count("alexnet"))))
    assert stage_name(["conv10", "conv11"]) == f"conv10{dash}conv11"
    assert stage_name(["features.1.0", "features.1.1"]) == "features.1"


def test_blocks_of_a_module_without_labels() -> None:
    import torchvision

    with torch.device("meta"):
        net = torchvision.models.resnet18()
    blocks = block_graph(layer_graph(cnnzoo.count(net, (1, 3, 224, 224))))
    assert [".".join(node.name) for node in blocks if node.kind == "block"] == [
        f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)
    ]


# --- chains and branches ---


def test_decompose() -> None:
    assert decompose([(), (0,), (1,)]) == (0, 1, 2)
    assert decompose([(), (0,), (0, 1)]) == (0, Split(((), (1,))), 2)
    nested = [(), (0,), (1,), (1,), (2, 3), (0,), (4, 5)]
    assert decompose(nested) == (0, Split(((1, Split(((2,), (3,))), 4), (5,))), 6)
    assert decompose([(), (0,), (0,), (1, 2), (2,), (3, 4)]) == (0, Tangle((1, 2, 3, 4)), 5)
    assert decompose([(), (0,), (0,)]) == (0, Split(((1,), (2,))))  # two outputs


def test_edges_that_are_not_drawn_are_known() -> None:
    torch.manual_seed(0)
    for size in range(2, 30):
        inputs = [()] + [tuple(sorted({int(torch.randint(i, ())) for _ in range(2)})) for i in range(1, size)]
        items = decompose(inputs)
        assert sorted(node for item in items for node in nodes_of(item)) == list(range(size))
        edges = {(source, node) for node, sources in enumerate(inputs) for source in sources}
        drawn = drawn_edges(items)
        if not any(isinstance(item, (Split, Tangle)) for item in items):
            assert drawn == edges


# --- towers ---


def test_two_towers() -> None:
    nodes = layer_graph(cnnzoo.count("alexnet_2012"))
    towers = dict(zip(names(nodes), count_towers(nodes), strict=True))
    assert {name for name, number in towers.items() if number == 2} == set(names(nodes)) - {
        "input",
        "fc6",
        "fc7",
        "fc8",
    }
    diagram = cnnzoo.draw("alexnet_2012", width=6.5)
    fronts = [s for s in diagram.drawing.shapes if isinstance(s, Polygon) and s.fill == "conv" and not s.shade]
    assert len(fronts) == 2 * 5 + 1  # five convolutions, and the legend
    assert any("2 towers" in line for line in texts(diagram))


def test_many_groups_are_no_towers() -> None:
    blocks = (Conv(8, kernel_size=1), Conv(8, kernel_size=3, groups=8), Conv(16, kernel_size=3, groups=8))
    spec = cnnzoo.Spec("grouped", (1, 16, 16), blocks)
    assert set(count_towers(layer_graph(cnnzoo.count(spec)))) == {1}
    assert {"depthwise", "8 groups"} <= set(texts(cnnzoo.draw(spec)))


# --- the picture ---


@pytest.mark.parametrize("width", [3.3, 6.5])
@pytest.mark.parametrize("detail", DETAILS)
@pytest.mark.parametrize("name", ["lenet5_1998", "alexnet_2012", "googlenet", "resnet18", "squeezenet1_1"])
def test_all_is_inside_and_no_text_covers_another(name: str, detail: str, width: float) -> None:
    drawing = cnnzoo.draw(name, detail=detail, width=width, show=SHOWN).drawing
    assert drawing.width == width * 72
    boxes = []
    for shape in drawing.shapes:
        if isinstance(shape, Text):
            x, y = shape.position
            left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[shape.anchor] * shape.width
            boxes.append((left, left + shape.width, y - 0.7 * shape.size, y))
        elif isinstance(shape, (Polygon, Line)):
            assert all(-0.1 <= x <= drawing.width + 0.1 and -0.1 <= y <= drawing.height for x, y in shape.points)
    for i, (left, right, top, low) in enumerate(boxes):
        assert left >= 0 and right <= drawing.width and low <= drawing.height
        assert all(right <= a or b <= left or low <= c or d <= top for a, b, c, d in boxes[:i])


def test_resnet50_in_one_line() -> None:
    drawing = cnnzoo.draw("resnet50", detail="stage", width=5.5).drawing
    baselines = {s.position[1] for s in drawing.shapes if isinstance(s, Text) and s.bold and s.anchor == "middle"}
    assert len(baselines) == 1


def test_columns_and_detail() -> None:
    drawing = cnnzoo.draw("alexnet", columns=3).drawing
    baselines = [s.position[1] for s in drawing.shapes if isinstance(s, Text) and s.bold and s.anchor == "middle"]
    assert [baselines.count(y) for y in sorted(set(baselines))] == [3, 3, 3, 3]
    assert [cnnzoo.draw(name).detail for name in ("vgg16", "googlenet", "densenet201")] == [
        "layer",
        "block",
        "stage",
    ]
    assert all(cnnzoo.draw(name).height <= 9 for name in ("resnet152", "densenet121", "vgg19", "googlenet"))


def test_what_is_written() -> None:
    words = texts(cnnzoo.draw("alexnet", show=["kernel", "activation", "parameters", "macs"]))
    times = "\N{MULTIPLICATION SIGN}"
    assert {"conv1", f"96@54{times}54", f"11{times}11 /4", "ReLU", "11.7 K", "33.9 M MACs"} <= set(words)
    assert "square root" in " ".join(words) and not any("drop" in word for word in words)
    assert "ReLU" not in texts(cnnzoo.draw("alexnet", show=[]))
    assert not any("square root" in word for word in texts(cnnzoo.draw("alexnet", legend=False)))


def test_own_networks(branchy: cnnzoo.Spec) -> None:
    conv = Conv(4, kernel_size=3, padding=1)
    for spec in (
        branchy,
        cnnzoo.Spec("one", (1, 8, 8), (conv,)),
        cnnzoo.Spec("flat", (1, 8, 8), (Flatten(),), (Logits(3),)),
        cnnzoo.Spec("many", (3, 9, 17), (conv,) * 200),
        cnnzoo.Spec(
            "twice", (2, 8, 8), (Parallel(((), ())), Parallel(((), ()), merge="add"), Activation("relu"), LRN())
        ),
        cnnzoo.Spec("long", (1, 8, 8), (Conv(2, kernel_size=3, label="a" * 64), AvgPool(2, label="\u4e2d" * 20))),
    ):
        for detail in DETAILS:
            ET.fromstring(cnnzoo.draw(spec, detail=detail, width=3.3).to_svg())
    marks = texts(cnnzoo.draw(cnnzoo.Spec("twice", (2, 8, 8), (Parallel(((), ())), Parallel(((), ()), merge="add")))))
    assert {"sum", "concatenation"} <= set(marks)


def test_edges_that_are_no_arrows_are_written() -> None:
    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.middle = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.pool, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
            self.out, self.side = nn.Conv2d(8, 2, 1), nn.Conv2d(4, 1, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            a = self.down(x)
            b = self.middle(self.pool(a))
            return self.out(torch.cat([self.up(b), a], 1)), self.side(b)

    words = texts(cnnzoo.draw(UNet(), input_size=(1, 1, 16, 16)))
    assert {"reads down", "reads middle"} <= set(words)


def test_wrong_arguments() -> None:
    with pytest.raises(UnknownNameError, match="unknown detail 'stages'. Did you mean 'stage'"):
        cnnzoo.draw("lenet", detail="stages")
    with pytest.raises(UnknownNameError, match="unknown text in a diagram 'params'. Did you mean 'parameters'"):
        cnnzoo.draw("lenet", show=["params"])
    with pytest.raises(InputError, match="width must be in inches, from 1 to 200, not 0"):
        cnnzoo.draw("lenet", width=0)
    with pytest.raises(InputError, match="columns must be an integer from 1"):
        cnnzoo.draw("lenet", columns=0)
    with pytest.raises(
        InputError, match=r"the picture of googlenet needs \d\.\d in, more than width=1.5; use a greater"
    ):
        cnnzoo.draw("googlenet", width=1.5, detail="layer")


# --- files ---


def test_the_same_network_has_the_same_bytes(tmp_path: Path) -> None:
    for suffix in ("svg", "tex", "pdf", "png"):
        for name in "ab":
            cnnzoo.draw("lenet", tmp_path / f"{name}.{suffix}")
        first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
        assert first == second and len(first) > 3_000
    with pytest.raises(FileError, match=r"the picture .*net\.svg cannot be written: its folder does not exist"):
        cnnzoo.draw("lenet", tmp_path / "none" / "net.svg")


def test_svg_has_text_of_the_measured_width() -> None:
    root = ET.fromstring(cnnzoo.draw("lenet", width=5.5).to_svg())
    assert (root.get("width"), root.get("font-family")) == ("396pt", "DejaVu Sans, Verdana, sans-serif")
    text = next(element for element in root.iter() if element.text == "conv1")
    assert float(text.get("textLength", 0)) == pytest.approx(text_width("conv1", 6.5, bold=True), abs=0.01)


def test_a_notebook_displays_it() -> None:
    diagram = cnnzoo.draw("lenet", dark=True)
    assert diagram._repr_svg_() == diagram.to_svg() and "#14161d" in diagram.to_svg()
    assert repr(diagram) == f"<Diagram of lenet: 5.5 x {diagram.height:.1f} in, detail='layer'>"


def test_kinds_differ_in_gray() -> None:
    """By lightness alone, at least 6 of 100 apart."""

    def lightness(color: str) -> float:
        red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
        y = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
        return 116 * y ** (1 / 3) - 16

    values = sorted(lightness(LIGHT[kind]) for kind in ("conv", "pool", "dense", "norm", "block", "other", "input"))
    assert all(b - a >= 6 for a, b in pairwise(values))


def test_tikz_is_escaped() -> None:
    assert tex_text(r"a_b $x \ 100% \u4e2d") == r"a\_b \$x \textbackslash{} 100\% \textbackslash{}u4e2d"
    assert tex_text("\u4e2d") == "U+4E2D"
    text = cnnzoo.draw("resnet18").to_tikz()
    assert text.startswith(r"\documentclass{article}") and text.count(r"\begin{") == text.count(r"\end{")
    assert r"\definecolor{conv}{HTML}{ABCDEC}" in text and "{layer1.0}" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with TikZ")
def test_tikz_compiles(tmp_path: Path) -> None:
    spec = cnnzoo.Spec("a_b%", (1, 8, 8), (Conv(3, kernel_size=3, label="$#&~^<\u4e2d"), Flatten()), (Logits(2),))
    cnnzoo.draw(spec, tmp_path / "a.tex", dark=True)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "(1 page" in done.stdout, done.stdout[-2000:]


def test_draw_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["draw", "lenet", "-o", "net.svg", "-k", "image_size=32", "--width", "3.3"])
    assert result.exit_code == 0 and result.output.startswith("net.svg: 3.3 x ")
    assert 'width="237.6pt"' in (tmp_path / "net.svg").read_text()
    options = ["--detail", "stage", "--columns", "4", "--show", "parameters", "--no-legend", "--dark"]
    assert CliRunner().invoke(main, ["draw", "resnet50", "-o", "net.tex", *options]).exit_code == 0
    result = CliRunner().invoke(main, ["draw", "lenet", "-o", "net.nothing"])
    assert result.exit_code == 1 and "net.nothing cannot be written" in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.svg", "net.tex"]
    parameters = {parameter.name: parameter for parameter in main.commands["draw"].params}
    assert tuple(parameters["detail"].type.choices) == DETAILS and tuple(parameters["show"].type.choices) == SHOWN


# --- the pictures of the repository ---


def test_pictures_of_the_repository_are_up_to_date(tmp_path: Path) -> None:
    """``python docs/make_pictures.py`` draws them; those that matplotlib draws depend on its version."""
    sys.path.insert(0, str(ROOT / "docs"))
    from make_pictures import PICTURES

    folder = ROOT / "docs" / "pictures"
    for name, draw in PICTURES.items():
        if "matplotlib" in (folder / name).read_text()[:2000].lower():
            continue
        draw(tmp_path / name)
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), f"{name} is out of date"


def test_the_first_picture_says_what_is_true() -> None:
    words = ET.parse(ROOT / "docs" / "pictures" / "alexnet-vs-lenet.svg").getroot()
    lines = [element.text for element in words.iter() if element.text]
    times = "\N{MULTIPLICATION SIGN}"
    assert {f"758{times}", f"2,252{times}", "46.8 M parameters", "938 M multiply-adds"} <= set(lines)
    assert [line for line in lines if "right on" in line] == [
        "93.6 % right on Fashion-MNIST",
        "91.2 % right on Fashion-MNIST",
    ]


# --- text ---


def test_wrap_text() -> None:
    assert wrap_text("a b", 100, 6.5) == ["a b"]
    lines = wrap_text("denseblock1.denselayer1 and more", 60, 6.5, bold=True)
    assert "".join(lines).replace(" ", "") == "denseblock1.denselayer1andmore"
    assert all(text_width(line, 6.5, bold=True) <= 60 for line in lines)
    assert wrap_text("x", 0.1, 6.5) == ["x"]


def test_threads_measure_text_at_once() -> None:
    """FreeType's fonts are not safe in threads."""
    characters = [chr(code) for code in range(32, 1024)]
    expected = [text_width(character, 10) for character in characters]
    _advance.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        widths = list(pool.map(lambda _: [text_width(character, 10) for character in characters], range(8)))
    assert all(width == expected for width in widths)
