"""Heads whose value output is zero, against zeros written into copies of the model, and what each does for predictions."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import vits
from torch import Tensor

from robustvit.analyses.lesions.head_importance import head_importance, importance_passes
from robustvit.analyses.lesions.head_removal import fit_order, head_removal
from robustvit.errors import BadParameter, HostRefused, NotApplicable
from robustvit.metrics.lesions.head_metrics import largest_head_effect, mean_head_effect, removed_heads_accuracy
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.head_lesions import head_effects, head_list, mean_importance, removal_order
from robustvit.spec.spec import Spec
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.estimates import resolve_metric
from robustvit.statistics.resamples import Resampler
from robustvit.transforms.depth.lesion_heads import lesion_heads

DRAWS = Draws(0, "x", tuple("abcdef"))


def host(**more: Any) -> Classifier:
    return vits.made(lambda: vits.vit(depth=3, **more), sharp=3.0)


def by_hand(model: Classifier, heads: list[tuple[int, int]]) -> Classifier:
    """A copy whose rows of value weights and biases of some heads are zero: their values are zero, and so is their output."""
    made = copy.deepcopy(model)
    for block, head in heads:
        qkv, width = made.model.blocks[block].attn.qkv, made.model.blocks[block].attn.head_dim
        start = 2 * 24 + head * width
        qkv.weight.data[start : start + width] = 0.0
        qkv.bias.data[start : start + width] = 0.0
    return made


@pytest.mark.parametrize("heads", [[(0, 1)], [(1, 0), (1, 1)], [(0, 0), (2, 1)], head_list(vits.vit())])
def test_a_lesion_is_zero_values(heads: list[tuple[int, int]]) -> None:
    model, pixels = host(), vits.images(5)
    made = lesion_heads(model, {}, heads=[f"{block}:{head}" for block, head in heads])
    assert torch.allclose(made(pixels), by_hand(model, heads)(pixels), atol=1e-5)
    assert not torch.allclose(made(pixels), model(pixels), atol=1e-3)


def test_every_head_is_measured_as_brute_force_does() -> None:
    model, pixels, labels = host().configure(tile=4), vits.images(6), torch.tensor([0, 1, 2, 3, 4, 0])
    found = head_importance(model, pixels, labels, DRAWS)
    whole = model(pixels).double().softmax(dim=1)
    for place, head in enumerate(head_list(model.model)):
        one = by_hand(model, [head])(pixels).double().softmax(dim=1)
        expected = {"value_drop_label": [], "value_drop_answer": [], "value_js": [], "value_flip": []}
        for p, q, label in zip(whole, one, labels.tolist(), strict=True):
            answer = int(p.argmax())
            middle = (p + q) / 2
            expected["value_drop_label"].append(float(p[label] - q[label]))
            expected["value_drop_answer"].append(float(p[answer] - q[answer]))
            expected["value_js"].append(float(sum(0.5 * (r * (r / middle).log2()).sum() for r in (p, q))))
            expected["value_flip"].append(float(int(q.argmax()) != answer))
        for name, values in expected.items():
            assert torch.allclose(found[name][:, place].double(), torch.tensor(values).double(), atol=1e-5), (name, head)


def test_a_head_without_values_has_importance_zero() -> None:
    model = by_hand(host(), [(1, 1)])
    found = head_importance(model, vits.images(6), torch.zeros(6, dtype=torch.int64), DRAWS)
    place = head_list(model.model).index((1, 1))
    assert all(not bool(values[:, place].any()) for values in found.values())
    assert bool((found["value_js"][:, [0, 1, 2, 4, 5]] > 0).all())


def test_heads_add_up_to_the_output_of_attention() -> None:
    model = host()
    attention: Any = model.model.blocks[0].attn
    tokens = torch.randn(4, 17, 24, generator=torch.Generator().manual_seed(0))
    bias = attention.proj.bias
    alone = []
    for head in range(2):
        other = f"0:{1 - head}"
        alone.append(lesion_heads(model, {}, heads=[other]).model.blocks[0].attn(tokens) - bias)
    assert torch.allclose(sum(alone) + bias, attention(tokens), atol=1e-5)


def test_rows_do_not_depend_on_companions_and_shortcuts_change_no_bit() -> None:
    model, pixels, labels = host().configure(tile=4), vits.images(6), torch.arange(6) % 5
    whole = head_effects("x", model, pixels, labels)
    alone = head_effects("x", model, pixels[4:5], labels[4:5])
    assert all(torch.equal(one[0], every[4]) for one, every in zip(alone, whole, strict=True))


def test_passes_are_those_of_the_blocks_that_are_computed() -> None:
    assert importance_passes(Spec("head_importance"), host(), {}).forward == 1 + 2 * (3 + 2 + 1) / 3


class Six:
    name, ids, labels = "six", tuple("abcdef"), np.arange(6) % 5

    def __len__(self) -> int:
        return 6


def load(data: Any, positions: np.ndarray) -> Batch:
    return Batch(vits.images(6)[positions], torch.from_numpy(data.labels[positions]), tuple(data.ids[i] for i in positions))


@pytest.mark.parametrize("measure", ["js", "drop_label", "drop_answer", "flip"])
def test_importance_is_the_mean_of_the_measure(measure: str) -> None:
    model = host().configure(tile=4)
    found = mean_importance("x", model, load, Six(), 100, measure)
    effects = head_effects("x", model, vits.images(6), torch.arange(6) % 5)
    assert torch.allclose(found, getattr(effects, measure).mean(dim=0), atol=1e-6)


def test_the_most_important_go_first_and_chance_is_seeded() -> None:
    importance = torch.tensor([0.1, 0.5, 0.1, 0.3])
    assert removal_order(4, "most", importance, 0) == [1, 3, 0, 2]
    assert removal_order(4, "least", importance, 0) == [0, 2, 3, 1]
    assert sorted(removal_order(4, "random", None, 0)) == [0, 1, 2, 3]
    assert removal_order(12, "random", None, 0) != removal_order(12, "random", None, 1)


@pytest.mark.parametrize("by", ["most", "least", "random"])
def test_the_analysis_removes_as_the_transform_does(by: Any) -> None:
    model, pixels, labels = host(), vits.images(6), torch.zeros(6, dtype=torch.int64)
    artifact: dict[str, Tensor] = {} if by == "random" else {"importance": torch.tensor([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])}
    found = head_removal(model, pixels, labels, DRAWS, artifact, by=by, orders=2, steps=3)
    assert found["value_heads_share"][0].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for step, count in enumerate((0, 2, 4, 6)):
        runs = [lesion_heads(model, artifact, count=count, by=by, seed=seed) for seed in range(2 if by == "random" else 1)]
        right = torch.stack([(one(pixels).argmax(dim=1) == labels).float() for one in runs]).mean(dim=0)
        assert found["value_heads_right"][:, step].tolist() == right.tolist()


@pytest.mark.parametrize(("given", "message"), [
    ({"heads": ["3:0"]}, "lesion_heads: model 'toy' has no block 3; it has 0 to 2"),
    ({"heads": ["0:2"]}, "block 0 of 'toy' has no head 2; it has 0 to 1"),
    ({"heads": ["0:1", "0:1"]}, "head 0:1 is named twice"),
    ({"heads": ["7"]}, "head '7' is not written block:head"),
    ({"count": 7}, "model 'toy' has 6 heads, and not 7"),
])  # fmt: skip
def test_what_is_not_there_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        lesion_heads(host(), {}, **given)


def test_importance_takes_data_and_a_plain_model() -> None:
    with pytest.raises(BadParameter, match="takes calibration"):
        fit_order(host(), load, DRAWS, by="most", calibration=None, samples=6, measure="js", steps=2, orders=1, seed=0)
    for call in (head_importance, lambda *given: head_removal(*given, {})):
        with pytest.raises(HostRefused, match="takes timm's plain vision transformers, and 'toy' is none: it is a SwinTransformer"):
            call(vits.made(vits.HOSTS["swin"]), vits.images(6), torch.zeros(6), DRAWS)


def test_metrics_of_heads() -> None:
    table = pd.DataFrame({
        "value_heads_right": [np.array([1, 1, 0.5], np.float32), np.array([1, 0, 0], np.float32)],
        "value_heads_share": [np.array([0, 0.5, 1], np.float32)] * 2,
        "value_flip": [np.array([1, 0], np.float32), np.array([1, 1], np.float32)],
    })  # fmt: skip
    assert removed_heads_accuracy(table).tolist() == [1, 0]
    assert removed_heads_accuracy(table, share=1.0).tolist() == [0.5, 0]
    with pytest.raises(NotApplicable, match=r"about 0\.25 of the heads; the nearest removes 0"):
        removed_heads_accuracy(table, share=0.25)
    assert mean_head_effect(table).tolist() == [0.5, 1]
    assert largest_head_effect(table).of(np.array([[1.0, 1.0], [0.0, 2.0]])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("of", ["flip", "js"])
def test_heads_that_do_nothing_for_ten_samples_are_not_certain_to_do_nothing(of: str) -> None:
    rows = pd.DataFrame({f"value_{of}": [np.zeros(4)] * 10, "sample": [str(one) for one in range(10)]})
    for name in ("mean_head_effect", "largest_head_effect"):
        found = score(resolve_metric({name: {"of": of}}), rows, Resampler()(rows["sample"].tolist()))
        assert (found.value, found.low, round(found.high, 1)) == (0.0, 0.0, 27.8), "Wilson's interval of none of ten"
