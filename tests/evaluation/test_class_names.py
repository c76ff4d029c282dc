"""Models and data that name their classes are matched by these names."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor, nn

import robustvit as rv
from robustvit.data.annotations.wnids import reading_with_rest, wnids
from robustvit.data.annotations.wnids import readings as readings_of
from robustvit.data.formats.arrays import array_dataset
from robustvit.errors import BadParameter, ModelError
from robustvit.evaluation.class_names import match_classes
from robustvit.evaluation.evaluate import through_reading
from robustvit.evaluation.manifest import manifest
from robustvit.evaluation.requested import Settings, make
from robustvit.primitives.class_lookup import names_classes
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ReadClassifier
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.spec.spec import Spec
from robustvit.spec.suite_file import load_suite
from robustvit.spec.view import View

NAMES = ("ant", "bee", "cat", "dog")


class Grey(nn.Module):
    """Reads a class off the brightness of an image: i-th of `shades` steps, in an order of its own."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(order) / len(order) + 0.1)

    def forward(self, images: Tensor) -> Tensor:
        return -100 * (images.mean(dim=(1, 2, 3))[:, None] - self.levels).square()


def model(classes: tuple[str, ...], order: tuple[int, ...] | None = None, label: str = "mine") -> Classifier:
    module = Grey(order or tuple(range(len(classes) or 4)))
    card = Card(label, Spec("grey"), fingerprint(module), "given", classes=classes)
    return Classifier(module, mean=(0.0,) * 3, std=(1.0,) * 3, view=View((8, 8), 8), card=card)


def data(names: tuple[str, ...] = NAMES, of: int = 4, readings=()):
    labels = np.arange(8) % min(len(names), of)
    images = np.stack([np.full((8, 8, 3), round(255 * (label / of + 0.1)), np.uint8) for label in labels])
    return array_dataset("shades", images, labels, ids=[str(i) for i in range(8)], classes=names, readings=readings)


SUITE = "name: s\ntitle: S\ndata: digits\nscenarios: [clean, {fgsm: {eps: 1/255}}]\nmetrics: [top1]\n"


def suite(text: str = SUITE):
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "s.yaml").write_text(text)
        return load_suite(path)


def plan(one, on, text=SUITE):
    return make(suite(text), [one], on, Settings(batch_size=4))


def top1(tmp_path, one, on) -> float:
    rows = computed(tmp_path, one, on)
    return float((rows[rows.scenario == "clean"].pred == rows[rows.scenario == "clean"].label).mean() * 100)


def computed(tmp_path, one, on, **options):
    rv.run(suite(), models=[one], data=on, store=tmp_path / "store", **options)
    return rv.load_records(tmp_path / "store").to_pandas()


def test_classes_numbered_the_other_way_round_are_found_by_name(tmp_path) -> None:
    turned = model(NAMES[::-1], (3, 2, 1, 0))
    assert top1(tmp_path, turned, data()) == 100.0
    assert top1(tmp_path / "position", replaced(turned, ()), data()) == 0.0


def replaced(one: Classifier, classes: tuple[str, ...]) -> Classifier:
    one.card = replace(one.card, classes=classes)
    return one


def test_an_attack_sees_the_classes_in_the_datas_order() -> None:
    host = through_reading(model(NAMES[::-1], (3, 2, 1, 0)), data())
    assert isinstance(host, ReadClassifier)
    assert host(torch.full((1, 3, 8, 8), 0.1)).argmax(dim=1).tolist() == [0]
    assert host.card.classes == ()


def test_kept_logits_are_in_the_datas_order(tmp_path) -> None:
    frame = computed(tmp_path, model(NAMES[::-1], (3, 2, 1, 0)), data(), keep=("logits",))
    frame = frame[frame.scenario == "clean"]
    assert (np.stack(frame.logits).argmax(axis=1) == frame.label).all()


def test_names_in_the_datas_own_order_leave_a_cells_id_alone_and_others_change_it() -> None:
    ids = [plan(one, data()).cells[0].id for one in (model(()), model(NAMES), model(NAMES[::-1]), model(("bee", "ant", "cat", "dog")))]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert "class_order" not in plan(model(NAMES), data()).cells[0].as_dict()


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        (("Great_White", "tench, Tinca tinca"), ("tench", "great white")),
        (("B-52", "A  x"), ("a X", "b 52")),
        (("n02084071 dog", "n02121808 cat"), ("n02121808", "n02084071")),
        (("n01443537", "n01440764"), ("tench", "goldfish")),
        (("goldfish", "tench"), ("n01440764", "n01443537")),
    ],
)
def test_names_are_compared_without_regard_to_their_spelling(own, theirs) -> None:
    assert match_classes(model(own), data(theirs, 2, rv_all(2))).order == (1, 0)


def rv_all(classes: int):
    from robustvit.primitives.reading import Reading

    return (Reading("all", classes),)


@pytest.mark.parametrize(
    "names",
    [(), ("a", "a"), ("LABEL_0", "LABEL_1"), ("cat", "LABEL_1"), ("class 1", "class 2"), ("0", "1"), ("cat", ""), ("Cat", "cat")],
)
def test_lists_that_name_nothing_leave_the_position_to_decide(names) -> None:
    assert not names_classes(names)
    assert match_classes(model(("dog", "cat")), data(names or ("0", "1"), 2)).by == ""
    assert match_classes(replaced(model(("dog", "cat")), names), data(("cat", "dog"), 2)).by == ""


def test_a_list_of_another_length_than_the_logits_names_nothing() -> None:
    assert match_classes(replaced(model(NAMES), NAMES[:3]), data(NAMES[::-1])).by == ""


def test_names_that_miss_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"1 of the data's 4 are not among the model's: 'cow'.*left: 'dog'.*by_position"):
        plan(model(NAMES), data(("ant", "bee", "cat", "cow")))


def test_the_address_gives_names_up(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_named_models.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def four():\n    made = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))\n    made.classes = ['dog', 'cat']\n    return made\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    address = "my_named_models:four?mean=0.5&std=0.5&img_size=8"
    assert rv.load_model(address).card.classes == ("dog", "cat")
    assert rv.load_model(f"{address}&classes=by_position").card.classes == ()
    with pytest.raises(BadParameter, match="Did you mean 'by_position'"):
        rv.load_model(f"{address}&classes=by_positions")
    sys.modules.pop("my_named_models")


def test_data_of_some_of_the_models_classes_is_read_among_them_and_among_all(tmp_path) -> None:
    some = data(("dog", "bee"), 4)
    found = match_classes(model(NAMES), some)
    assert [(one.name, one.classes, one.columns, one.outputs) for one in found.readings] == [
        ("mask", 2, (3, 1), 4), ("4way", 4, (3, 1, 0, 2), 4)
    ]  # fmt: skip
    assert {"pred_4way", "rank_4way"} <= set(computed(tmp_path, model(NAMES), some))


def test_a_model_of_fewer_classes_without_a_name_in_common_is_refused_for_its_number() -> None:
    with pytest.raises(ModelError, match="has 4 classes, data 'shades' has 2"):
        plan(model(NAMES), data(("x", "y"), 2))


def test_readings_of_imagenet_follow_the_wnids_of_the_model() -> None:
    turned = model(wnids()[::-1])
    some = (wnids()[3], wnids()[7])
    mask, whole = match_classes(turned, data(some, 2, readings_of(some))).readings
    assert mask.columns == (996, 992)
    assert whole.columns is not None
    assert (whole.columns[:2], sorted(whole.columns)) == ((996, 992), list(range(1000)))
    (grouped,) = match_classes(turned, data(("fish", "rest"), 2, (reading_with_rest("g", ((0, 1),)),))).readings
    assert grouped.groups is not None
    assert grouped.groups[0] == (999, 998)
    assert match_classes(model(wnids()), data(some, 2, readings_of(some))).order is None


def test_a_model_of_all_of_imagenet_is_read_at_the_thousand_classes() -> None:
    all_of_them = tuple(ImageNetInfo("imagenet-22k-ms").label_names())
    found = match_classes(model(all_of_them), data(wnids(), 1000, rv_all(1000)))
    assert [one.name for one in found.readings] == ["mask", "21842way"]
    assert [all_of_them[i] for i in found.readings[0].columns or ()] == list(wnids())


def test_words_for_wnids_that_differ_a_little_are_no_reason_to_refuse() -> None:
    words = list(ImageNetInfo().label_descriptions())
    words[134], words[517], words[0] = "crane (bird)", "crane (machine)", "a fish"
    found = match_classes(model(tuple(words)), data(wnids(), 1000, rv_all(1000)))
    assert (found.by, found.order) == ("name", None)
    words[5], words[6] = words[6], words[5]
    with pytest.raises(ModelError, match="3 of the data's 1000"):
        match_classes(model(tuple(words)), data(wnids(), 1000, rv_all(1000)))


WORDS = tuple(ImageNetInfo().label_descriptions())  # as Hugging Face's id2label has them: crane is 134 and 517
FIRST = tuple(words.split(",")[0] for words in WORDS)  # cardigan is 264 and 474, maillot 638 and 639, too


@pytest.mark.parametrize("names", [WORDS, FIRST, tuple(words.upper() for words in FIRST)])
def test_imagenets_words_in_its_order_name_its_classes_though_some_occur_twice(names) -> None:
    assert not names_classes(names)
    found = match_classes(model(names), data(wnids(), 1000, rv_all(1000)))
    assert (found.by, found.order) == ("wnid", None)
    mask, whole = match_classes(model(names), data(some := (wnids()[134], wnids()[517]), 2, readings_of(some))).readings
    assert (mask.columns, whole.outputs) == ((134, 517), 1000)
    turned = match_classes(model(wnids()[::-1]), data(names, 1000, rv_all(1000)))
    assert turned.order == tuple(range(999, -1, -1))


def test_imagenets_words_are_found_in_a_data_set_that_numbers_some_of_them_otherwise() -> None:
    """A model of transformers on a data set with names of classes: not by position, but by name."""
    found = match_classes(model(WORDS), data(("goldfish", "tench"), 2, rv_all(2)))
    assert found.order == (1, 0)


@pytest.mark.parametrize("names", [WORDS[::-1], tuple(sorted(FIRST)), (*WORDS[1:134], WORDS[0], *WORDS[134:])])
def test_imagenets_words_in_another_order_are_refused_where_some_occur_twice(names) -> None:
    for one, on in ((names, wnids()), (wnids(), names)):
        with pytest.raises(ModelError, match=r"of ImageNet's names of classes, .* '(Cardigan|crane)' at"):
            match_classes(model(one), data(on, 1000, rv_all(1000)))
        assert match_classes(model(()), data(on, 1000, rv_all(1000))).by == ""


def test_names_that_occur_twice_elsewhere_are_not_imagenets() -> None:
    words = (*WORDS[:5], WORDS[0], *WORDS[6:])
    with pytest.raises(ModelError, match=r"'tench, Tinca tinca' at 0 and 5"):
        match_classes(model(words), data(wnids(), 1000, rv_all(1000)))
    others = ("a", *(f"w{i}" for i in range(998)), "a")
    assert match_classes(model(others), data(wnids(), 1000, rv_all(1000))).by == ""


def test_a_surrogate_with_another_order_is_part_of_the_cell() -> None:
    text = "name: s\ntitle: S\ndata: digits\nscenarios: [{transfer: {surrogate: demo, attack: {fgsm: {eps: 1/255}}}}]\nmetrics: [top1]\n"
    names = tuple("abcdefghij")
    with pytest.MonkeyPatch.context() as patch:
        surrogate = rv.load_model("demo")
        patch.setattr("robustvit.evaluation.pipelines.nested.load_model", lambda *_, **__: surrogate)
        ids = []
        for classes in ((), names, names[::-1]):
            surrogate.card = replace(surrogate.card, classes=classes)
            on = array_dataset("tens", np.zeros((2, 32, 32, 3), np.uint8), [0, 1], ids=["a", "b"], classes=names)
            ids.append(plan(rv.load_model("demo"), on, text).cells[0].id)
    assert ids[0] == ids[1] != ids[2]


def test_the_manifest_says_what_was_matched() -> None:
    assert manifest(plan(model(NAMES), data()), "").models["mine"].notes["classes"] == "matched with shades by name"
    assert "classes" not in manifest(plan(model(()), data()), "").models["mine"].notes
    assert manifest(plan(model(NAMES), data()), "").id == manifest(plan(model(()), data()), "").id
