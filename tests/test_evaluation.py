"""The value of an evaluation: metrics of each class, tables, files, the heat map in a notebook."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo.data import ImageData, Split
from cnnzoo.errors import InputError
from cnnzoo.measure.tables import escape_markdown
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.text import printable
from cnnzoo.train import Evaluation, class_metrics, confusion_html
from cnnzoo.train.inference import evaluate

# dog: TP 5, FP 2, FN 3; cat: TP 3, FP 3, FN 3; owl: no images, predicted once; emu: neither
MATRIX = [[5, 3, 0, 0], [2, 3, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
HOSTILE = ["<b onclick='x()'>&amp;\"</td>", "=1+1|a, b", "line\nbreak\x1b[31m", "__*[x](y)*__ :dog: golden_retriever"]


def make(confusion: Sequence[Sequence[int]] | torch.Tensor, names: Sequence[str] = (), **changes) -> Evaluation:
    matrix = torch.as_tensor(confusion)
    n = int(matrix.sum())
    values = {"top1": int(matrix.trace()) / max(n, 1), "top5": None, "loss": 0.5, "n": n, **changes}
    return Evaluation(confusion=matrix, label_names=names, **values)


def random_confusion(classes: int, correct: int = 80) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randint(0, 12, (classes, classes), generator=generator) + torch.eye(classes, dtype=torch.int64) * correct
    )


class HTML(HTMLParser):
    """The tags and the rows of all tables of a fragment; every element must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.captions: list[str] = []
        self.tables: list[list[list[str]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "caption":
            self.captions.append("")
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "caption" in self._open:
            self.captions[-1] += data
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1] += data


# --- metrics ---


def test_metrics_of_each_class() -> None:
    evaluation = make(MATRIX, ["dog", "cat", "owl", "emu"])
    assert evaluation.support == (8, 6, 0, 0)
    assert evaluation.precision == (5 / 7, 3 / 6, 0.0, None)
    assert evaluation.recall == (5 / 8, 3 / 6, None, None)
    assert evaluation.f1 == (10 / 15, 6 / 12, 0.0, None)
    assert evaluation.balanced_accuracy == (5 / 8 + 3 / 6) / 2


def test_class_that_is_never_predicted() -> None:
    """Its precision is undefined; its F1 is not: 0 / (0 + 0 + FN)."""
    evaluation = make([[4, 0], [3, 0]])
    assert evaluation.precision == (4 / 7, None) and evaluation.recall == (1.0, 0.0) and evaluation.f1 == (8 / 11, 0.0)
    assert evaluation.label_names == ("0", "1")


def test_one_class_and_no_images() -> None:
    one, none = make([[3]]), make([[0]])
    assert one.precision == one.recall == one.f1 == (1.0,) and one.balanced_accuracy == 1.0
    assert none.precision == none.recall == none.f1 == (None,) and none.balanced_accuracy is None
    assert str(one).startswith("top-1 1.0000, loss 0.5000, balanced accuracy 1.0000 on 3 images\n")
    assert str(none).startswith("top-1 0.0000, loss 0.5000 on 0 images\n")
    assert "Most frequent" not in str(one) and HTML(one._repr_html_()).tables[0][1] == ["0", "3", "3", "100.0%"]


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("classes", [2, 7, 30])
def test_metrics_are_those_of_scikit_learn(classes: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(classes)
    true, predicted = torch.randint(0, classes, (2, 3 * classes), generator=generator)
    matrix = metrics.confusion_matrix(true, predicted, labels=range(classes))
    evaluation = make(matrix)
    expected = metrics.precision_recall_fscore_support(
        true, predicted, labels=range(classes), zero_division=float("nan")
    )
    for values, theirs in zip((evaluation.precision, evaluation.recall, evaluation.f1), expected, strict=False):
        assert [float("nan") if v is None else v for v in values] == pytest.approx(theirs.tolist(), nan_ok=True)
    assert evaluation.support == tuple(expected[3])
    assert evaluation.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(true, predicted))


def test_most_frequent_confusions() -> None:
    confusions = class_metrics.most_frequent_confusions(torch.tensor([[7, 3, 0], [1, 9, 0], [1, 0, 4]]), 2)
    assert confusions == [(0, 1, 3, 0.3), (1, 0, 1, 0.1)]  # of equal counts, those of the first class
    assert class_metrics.most_frequent_confusions(torch.eye(3, dtype=torch.int64), 5) == []


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"confusion must be int64 \(classes, classes\), not of shape \(2, 3\)"):
        make([[1, 2, 3], [4, 5, 6]])
    with pytest.raises(InputError, match="has 2 classes, but label_names has 1 names; give one name per class"):
        make([[1, 0], [0, 1]], ["dog"])


@pytest.mark.parametrize("classes", [5, 6])
def test_top5_needs_six_classes(classes: int) -> None:
    split = Split(torch.zeros(12, 1, 4, 4, dtype=torch.uint8), torch.arange(12) % classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
    evaluation = evaluate(model, split, classes=["x"] * classes, preprocessing=Preprocessing(4, [0.5], [0.5]))
    assert evaluation.top5 == (None if classes == 5 else 10 / 12)
    assert ("top-5" in str(evaluation)) == (classes == 6) and evaluation.to_dict()["top5"] == evaluation.top5


# --- text ---


def test_text() -> None:
    assert make(MATRIX, ["dog", "cat", "owl", "emu"], views="flip").text(80).splitlines() == [
        "top-1 0.5714, loss 0.5000, balanced accuracy 0.5625 on 14 images, views flip",
        "",
        "  class   images   precision   recall       F1",
        " ─────────────────────────────────────────────",
        "  dog          8      0.7143   0.6250   0.6667",
        "  cat          6      0.5000   0.5000   0.5000",
        "  owl          0      0.0000        -   0.0000",
        "  emu          0           -        -        -",
        "",
        "-: undefined (precision of a class that is never predicted, recall of a class",
        "  without images, F1 if both)",
        "2 of 4 classes have no images; balanced accuracy is the mean recall of the",
        "  others",
        "",
        "Most frequent confusions",
        "",
        "  true class as predicted class   images   share of class",
        " ────────────────────────────────────────────────────────",
        "  dog as cat                           3           0.3750",
        "  cat as dog                           2           0.3333",
        "  cat as owl                           1           0.1667",
    ]


@pytest.mark.parametrize("width", [80, 100])
def test_long_names_are_wrapped_and_numbers_are_not(width: int) -> None:
    names = ["x" * 150, "word " * 40, "7" * 150, *HOSTILE]
    evaluation = make(random_confusion(7, correct=12_345_678), names, top5=0.9876, views="ten_crop")
    text = evaluation.text(width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("x" * 20) >= 2 and ":dog:" in text
    for n, *values in zip(evaluation.support, evaluation.precision, evaluation.recall, evaluation.f1, strict=True):
        assert re.search(rf"{n:,} +" + " +".join(f"{value:.4f}" for value in values), text)
    summary = " ".join(text.partition("\n\n")[0].splitlines())
    assert summary == evaluation.summary and summary.endswith("images, views ten_crop") and "top-5 0.9876" in summary


def test_many_classes() -> None:
    matrix = torch.eye(1000, dtype=torch.int64) * 50
    matrix[500:520, :] = 0
    matrix[500:520, 3] = 7  # 20 classes with an F1 of 0
    matrix[600] = 0
    matrix[:, 600] = 0  # F1 undefined
    evaluation = make(matrix, [f"name {i}" for i in range(1000)])
    table = evaluation.tables()[0]
    assert [row[0] for row in table.rows] == [f"name {i}" for i in range(500, 520)]
    assert table.notes[0] == (
        "980 of 1,000 classes are left out, none with a lower F1 than these; to_csv() and to_json() have all"
    )
    assert "1 of 1,000 classes has no images" in table.notes[2]
    assert len(list(csv.reader(io.StringIO(evaluation.to_csv())))) == 1001
    assert len(json.loads(evaluation.to_json())["confusion"]) == 1000
    assert len(make(random_confusion(20)).tables()[0].rows) == 20 and not make(random_confusion(20)).tables()[0].notes


# --- files ---


def test_json() -> None:
    evaluation = make(MATRIX, HOSTILE)
    values = json.loads(evaluation.to_json())
    assert values == evaluation.to_dict() == {
        "top1": 8 / 14,
        "top5": None,
        "loss": 0.5,
        "balanced_accuracy": 0.5625,
        "n": 14,
        "views": "single",
        "label_names": HOSTILE,
        "support": [8, 6, 0, 0],
        "precision": [5 / 7, 0.5, 0.0, None],
        "recall": [5 / 8, 0.5, None, None],
        "f1": [10 / 15, 0.5, 0.0, None],
        "confusion": MATRIX,
    }  # fmt: skip


def test_csv() -> None:
    head, *rows = csv.reader(io.StringIO(make(MATRIX, HOSTILE).to_csv(), newline=""))
    assert head == ["class", "support", "precision", "recall", "f1"]
    assert [row[0] for row in rows] == [HOSTILE[0], "'" + HOSTILE[1], *HOSTILE[2:]]  # no formula
    assert rows[0][1:] == ["8", str(5 / 7), "0.625", str(10 / 15)] and rows[3][1:] == ["0", "", "", ""]


def test_markdown() -> None:
    text = make(MATRIX, HOSTILE).to_markdown()
    assert "<" not in text and "**" not in text.replace("**top-1", "").replace("images**", "").replace(
        "**Most frequent confusions**", ""
    )
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [len(row) for row in rows] == [5] * 6 + [3] * 5
    assert [html.unescape(row[0]) for row in rows[2:6]] == list(map(printable, HOSTILE))
    assert rows[2][1:] == ["8", "0.7143", "0.6250", "0.6667"] and rows[5][1:] == ["0", "-", "-", "-"]
    assert html.unescape(rows[8][0]) == f"{HOSTILE[0]} as {HOSTILE[1]}"
    assert "golden_retriever" in rows[5][0] and "_*" not in rows[5][0]


def test_characters_of_names() -> None:
    assert printable("a\tb\u2028\udcff ü 犬 👩\u200d🚀") == "a\\tb\\u2028\\udcff ü 犬 👩\u200d🚀"
    assert escape_markdown("a_b __init__ C# `x`") == "a_b &#95;&#95;init&#95;&#95; C# &#96;x&#96;"


# --- notebook ---


def test_heat_map() -> None:
    page = HTML(make(MATRIX, HOSTILE)._repr_html_())
    names = list(map(printable, HOSTILE))
    assert page.captions[0] == (
        "Confusion matrix of 14 images (rows: true class, columns: predicted class, color: share of the row)"
    )
    assert page.tables[0] == [
        ["", *names, "images", "recall"],
        [names[0], "5", "3", "", "", "8", "62.5%"],
        [names[1], "2", "3", "1", "", "6", "50.0%"],
        [names[2], "", "", "", "", "0", "-"],
        [names[3], "", "", "", "", "0", "-"],
    ]
    assert len(page.tables) == 3 and [row[0] for row in page.tables[1][1:]] == names
    tags = {"div", "p", "b", "table", "caption", "thead", "tbody", "tr", "th", "td", "span"}
    assert {tag for tag, _ in page.tags} == tags
    assert {key for _, attributes in page.tags for key in attributes} == {"style", "scope"}


def test_colors_of_the_heat_map() -> None:
    """Inherited text has a contrast of 4.5 at least (WCAG) on every cell, in the themes of JupyterLab and VS Code."""
    page = HTML(confusion_html.heat_map(torch.tensor([[9, 0, 1], [10, 0, 0], [0, 0, 5]]), "abc"))
    styles = [str(attributes["style"]) for tag, attributes in page.tags if tag == "td"]
    colors = [re.findall(r"rgba\((\d+),(\d+),(\d+),([\d.]+)\)", style) for style in styles]
    cells = [tuple(map(float, color[0])) for color in colors if color]
    correct, wrong = (tuple(map(float, c.split(","))) for c in (confusion_html.CORRECT, confusion_html.WRONG))
    assert cells == [(*correct, 0.57), (*wrong, 0.19), (*wrong, 0.6), (*correct, 0.6)]
    for ground, ink in ((255, 0x21), (0x11, 0xE0), (0x1E, 0xCC)):
        for *color, opacity in cells:
            background = _luminance([opacity * c + (1 - opacity) * ground for c in color])
            low, high = sorted((background, _luminance([ink] * 3)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ground, color, opacity)


def _luminance(color: Sequence[float]) -> float:
    """Relative luminance of sRGB values from 0 to 255, as WCAG 2 defines it."""
    red, green, blue = (c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_heat_map_of_many_classes_shows_groups() -> None:
    matrix = random_confusion(101)
    page = HTML(confusion_html.heat_map(matrix, [f"<{i}>" for i in range(101)]))
    head, *rows = page.tables[0]
    assert "101 classes in groups of 3 consecutive ones" in page.captions[0]
    assert head[1] == "0 to 2" and head[-3:] == ["99 to 100", "images", "same group"] and len(rows) == 34
    assert rows[0][0] == "0 to 2: <0> to <2>"
    assert int(rows[0][2]) == matrix[0:3, 3:6].sum() and int(rows[-1][-3]) == matrix[99:, 99:].sum()
    assert rows[1][-2] == f"{matrix[3:6].sum():,}"
    assert rows[1][-1] == f"{matrix[3:6, 3:6].sum() / matrix[3:6].sum():.1%}"
    assert len(HTML(confusion_html.heat_map(random_confusion(40), ["x"] * 40)).tables[0]) == 41


def test_evaluation_of_a_network(tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    evaluation = cnnzoo.evaluate(cnnzoo.create(tiny_spec), tiny_data, preprocessing=Preprocessing(8, [0.5], [0.5]))
    labels = tiny_data.test.labels
    assert evaluation.support == tuple(torch.bincount(labels, minlength=3).tolist()) and evaluation.top5 is None
    mean = sum((r or 0) * n for r, n in zip(evaluation.recall, evaluation.support, strict=True)) / evaluation.n
    assert evaluation.top1 == pytest.approx(mean)
