"""Which class is which label, where names are all there is; each case is one that timm and torchvision number differently."""

import json
import random
from pathlib import Path

import pytest

from robustvit.data.formats.class_order import class_order, natural_key, read_class_map
from robustvit.errors import BadParameter, DataMissing, DataUnreadable

TEN = [f"class_{i}" for i in range(1, 11)]
WORDS = ["ape", "bee", "cat"]


def test_natural_order_is_timms() -> None:
    timm = pytest.importorskip("timm.utils.misc")
    draw = random.Random(0)
    names = sorted(
        {"".join(draw.choice(["a", "B", "b", "7", "10", "_", "-", "003"]) for _ in range(draw.randint(1, 5))) for _ in range(300)}
    )
    assert [timm.natural_key(name) for name in sorted(names, key=natural_key)] == sorted(map(timm.natural_key, names))


@pytest.mark.parametrize("names", [TEN, [str(i) for i in range(1000)], ["a", "B"], ["a10", "A9"], ["z", "é", "É2", "é10"]])
def test_names_that_tools_sort_differently_are_ambiguous(names: list[str]) -> None:
    assert class_order("x", names, None, None, Path()).names == sorted(names)
    message = class_order("x", names, None, None, Path()).ambiguous
    assert all(word in message for word in ("?order=natural", "?order=text", "?classes=FILE"))
    for order in ("text", "natural"):
        assert not class_order("x", names, order, None, Path()).ambiguous


@pytest.mark.parametrize("names", [WORDS, [], ["n01440764", "n02123045"], ["0", "1", "9"], ["007", "010"], ["Ape", "Bee"]])
def test_names_that_all_tools_sort_alike_are_not(names: list[str]) -> None:
    assert class_order("x", names, None, None, Path()) == (sorted(names), "")


def test_the_message_shows_the_first_label_that_differs() -> None:
    message = class_order("x", TEN, None, None, Path()).ambiguous
    assert (
        "which is label 1: sorted as text (as torchvision does) it is 'class_10', in natural order (as timm does) it is 'class_2'"
        in message
    )


def test_numbered_folders_in_natural_order_are_their_numbers() -> None:
    names = [str(i) for i in range(1000)]
    assert class_order("x", sorted(names), "natural", None, Path()).names == names


@pytest.mark.parametrize(
    "text",
    [
        "cat\nape\nbee\n", "\ufeffcat\r\nape\r\n\r\nbee", "cat 0\nape 1\nbee 2", "ape,1\nbee, 2\ncat,0\n", "0 cat\n2\tbee\n1: ape",
        "cat Felis catus, a cat\nape an ape\nbee", json.dumps(["cat", "ape", "bee"]), json.dumps({"bee": 2, "cat": 0, "ape": 1}),
        json.dumps({"2": "bee", "0": "cat", "1": "ape"}),
        "\ufeff" + json.dumps({"0": ["n1", "cat"], "1": ["n2", "ape"], "2": ["n3", "bee"]}),
    ],
)  # fmt: skip
def test_every_usual_form_of_a_class_map_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.txt").write_text(text, encoding="utf-8")
    assert read_class_map("x", "map.txt", WORDS, tmp_path) == ["cat", "ape", "bee"]
    assert class_order("x", WORDS, None, tmp_path / "map.txt", Path("/")) == (["cat", "ape", "bee"], "")


def test_names_with_spaces_and_numbers_are_names(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("class 2\nclass 10\nclass 1\n")
    assert read_class_map("x", "map.txt", ["class 1", "class 2", "class 10"], tmp_path) == ["class 2", "class 10", "class 1"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ape\nbee", "it lacks 1: cat"), ("ape\nbee\ncat\nelk", "it names 1 that are no class here: elk"),
        ("ape\nbee\nape\ncat", "it repeats 1: ape"),
        ("ape\nbee\ncatt", "Did you mean 'cat'?"), ("ape 1\nbee 2\ncat 3", "it must number them 0 … 2, each once"), ("", "it lacks 3"),
        ('{"ape": 0, "bee": 1, "cat": 1}', "it must number them 0 … 2"),
        ('{"0": "ape", "1": "bee", "3": "cat"}', "it must number them 0 … 2"),
        ("{", "is no JSON"), ('{"ape": "x"}', "it lacks 3"), ("{}", "it lacks 3"),
    ],
)  # fmt: skip
def test_a_class_map_that_does_not_fit_is_refused_with_names(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "map").write_text(text)
    with pytest.raises(DataUnreadable) as caught:
        read_class_map("x", "map", WORDS, tmp_path)
    assert reason in str(caught.value)


def test_a_class_map_that_can_be_read_in_two_ways_is_refused(tmp_path: Path) -> None:
    (tmp_path / "map").write_text("0 1\n1 2\n2 0\n")
    with pytest.raises(DataUnreadable, match="can be read as 'name index' and as 'index name'"):
        read_class_map("x", "map", ["0", "1", "2"], tmp_path)


def test_a_class_map_that_is_not_there_is_named_and_so_are_two_orders(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"there is no class map gone\.txt"):
        read_class_map("x", "gone.txt", WORDS, tmp_path)
    with pytest.raises(BadParameter, match="order=text and classes=map both number the classes"):
        class_order("x", WORDS, "text", "map", tmp_path)
