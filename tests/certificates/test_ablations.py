"""Votes on ablations: the counts, and when counting may stop."""

import copy

import numpy as np
import pytest
import timm
import torch
from exact import classifier, images
from torch import Tensor, nn

from robustvit.certificates.ablations import _VoteCount
from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.masked_inference import MaskedViews
from robustvit.primitives.scenario import scenario
from robustvit.spec.ablations import Ablations, Window
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import parse

SIDE, CLASSES = 16, 4


def vit(tile: int = 4) -> Classifier:
    """A small transformer whose votes differ from ablation to ablation."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = timm.create_model(
            "vit_tiny_patch16_224", img_size=SIDE, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=CLASSES
        )
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.3)
    return classifier(module, side=SIDE, tile=tile)


def certified(model: Classifier, pixels: Tensor, name: str = "columns", **params) -> dict[str, Tensor]:
    spec = bind(lookup("certificate", name), parse({name: params})[0])
    batch = Batch(pixels, torch.zeros(len(pixels), dtype=torch.int64), tuple(str(i) for i in range(len(pixels))))
    return scenario(lookup("certificate", name), spec)(model, batch, Draws(0, "c", batch.ids)).columns


def verdict(columns: dict[str, Tensor], count: int, touched: int) -> list[bool]:
    return (columns["votes_first"] - columns["votes_second"] - (count - columns["votes"]) > 2 * touched).tolist()


@pytest.mark.parametrize("name", ["columns", "rows", "both", "blocks"])
def test_votes_are_those_of_a_plain_loop_over_the_ablations(name: str) -> None:
    model, pixels = vit(), images(3, SIDE, 0.0, 1.0)
    columns = certified(model, pixels, name, width=5, stride=3, unseen="kept")
    every = Ablations(name, 5, 3, (SIDE, SIDE))  # type: ignore[arg-type]
    window = every.window(np.arange(every.count))
    masks = torch.from_numpy(window.rows[:, :, None] & window.columns[:, None, :])
    for row, image in enumerate(pixels):
        votes = np.bincount([int(model(torch.where(mask, image, 0.0)[None]).argmax()) for mask in masks], minlength=CLASSES)
        first, second = np.sort(votes)[::-1][:2]
        assert [int(columns[key][row]) for key in ("votes_first", "votes_second", "votes_label", "votes")] == [
            first,
            second,
            votes[0],
            every.count,
        ]
        assert int(columns["vote"][row]) == int(columns["pred"][row]) == int(votes.argmax())


class GivenVotes:
    """A masked model with given votes: (images, ablations) classes."""

    def __init__(self, votes: np.ndarray) -> None:
        self.votes = torch.from_numpy(votes)

    def logits(self, views: MaskedViews) -> Tensor:
        which = torch.from_numpy(views.window.columns.argmax(axis=1))
        return nn.functional.one_hot(self.votes[views.image, which], CLASSES).float()

    def token_counts(self, window: Window) -> np.ndarray:
        return np.ones(len(window.rows), dtype=np.int64)


BANDS = Ablations("columns", 1, 1, (40, 40))


def elections(rows: int = 200) -> np.ndarray:
    """Votes of all sorts: unanimous, close, split, and split along the image."""
    chance = np.random.default_rng(0)
    share = chance.uniform(0.2, 1.0, size=(rows, 1))
    votes = np.where(chance.uniform(size=(rows, 40)) < share, 1, chance.integers(0, CLASSES, size=(rows, 40)))
    return np.concatenate([votes, np.ones((1, 40), int), np.repeat([[0, 1]], 20, axis=1).reshape(1, 40), np.arange(40)[None] // 10])


def count_of(votes: np.ndarray, gap: int | None) -> _VoteCount:
    count = _VoteCount(GivenVotes(votes), len(votes), BANDS)
    count.count_all() if gap is None else count.count_until_decided(gap)
    return count


@pytest.mark.parametrize("patch", [1, 2, 5, 9, 15, 19, 20, 40])
def test_counting_that_stops_early_reaches_the_verdict_of_the_full_count(patch: int) -> None:
    votes, gap = elections(), 2 * BANDS.touched(patch)
    full, early = (count_of(votes, gap_or_none).counts.sort(dim=1, descending=True).values for gap_or_none in (None, gap))
    left = 40 - early.sum(dim=1)
    assert torch.equal(full[:, 0] - full[:, 1] > gap, early[:, 0] - early[:, 1] - left > gap)


@pytest.mark.parametrize("patch", [1, 5, 9, 15])
def test_counting_stops_at_the_first_vote_that_decides(patch: int) -> None:
    votes, gap = elections(40), 2 * BANDS.touched(patch)
    needed = count_of(votes, gap).counts.sum(dim=1).tolist()
    for row, stopped in zip(votes[:, BANDS.order()], needed, strict=True):
        for place in range(1, 41):
            first, second = np.sort(np.bincount(row[:place], minlength=CLASSES))[::-1][:2]
            if first - second - (40 - place) > gap or first - second + (40 - place) <= gap:
                break
        assert stopped == place


def test_a_leader_that_is_sure_to_win_is_the_one_of_the_full_count() -> None:
    votes, gap = elections(), 2 * BANDS.touched(5)
    full, early = count_of(votes, None).counts, count_of(votes, gap).counts
    ranked = early.sort(dim=1, descending=True).values
    sure = ranked[:, 0] - ranked[:, 1] - (40 - early.sum(dim=1)) > gap
    assert int(sure.sum()) > 20
    assert torch.equal(early.argmax(dim=1)[sure], full.argmax(dim=1)[sure])


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("unseen", ["dropped", "kept"])
@pytest.mark.parametrize("name", ["columns", "blocks"])
def test_a_model_gets_the_same_verdict_early_and_in_full(kind: torch.dtype, unseen: str, name: str) -> None:
    model = vit().to(kind)
    pixels = images(24, SIDE, 0.0, 1.0) * torch.linspace(0.1, 1.0, 24).view(-1, 1, 1, 1)
    every = Ablations(name, 5, 2, (SIDE, SIDE))  # type: ignore[arg-type]
    for patch in (1, 2, 3):
        full, early = (certified(model, pixels, name, width=5, stride=2, unseen=unseen, **more) for more in ({}, {"stop_at": patch}))
        assert verdict(full, every.count, every.touched(patch)) == verdict(early, every.count, every.touched(patch))


@pytest.mark.parametrize("name", ["columns", "both"])
def test_float32_and_float64_cast_the_same_votes(name: str) -> None:
    pixels = images(16, SIDE, 0.0, 1.0)
    single, double = (certified(model, pixels, name, width=5) for model in (vit(), copy.deepcopy(vit()).double()))
    assert all(torch.equal(single[key], double[key]) for key in ("vote", "votes_first", "votes_second"))


@pytest.mark.parametrize("more", [{}, {"stop_at": 2}])
def test_a_row_does_not_depend_on_its_companions(more: dict[str, int]) -> None:
    model, pixels = vit(), images(12, SIDE, 0.0, 1.0)
    whole, few = (certified(model, some, width=5, **more) for some in (pixels, pixels[[7, 2]]))
    assert all(torch.equal(few[key], whole[key][[7, 2]]) for key in whole)


def test_pred_is_returned_only_where_all_votes_were_counted() -> None:
    columns = certified(vit(), images(2, SIDE), width=5, stop_at=2)
    assert "pred" not in columns
    assert "vote" in columns


def test_tokens_count_what_the_model_received() -> None:
    dropped, kept = (certified(vit(), images(2, SIDE), width=5, unseen=way)["tokens"].tolist() for way in ("dropped", "kept"))
    assert dropped == [16 * (1 + 2 * 4)] * 2  # 16 bands, each over two of four columns of tokens
    assert kept == [0, 0]


def test_half_precision_is_refused() -> None:
    with pytest.raises(BadParameter, match="precision is bfloat16, which flips votes"):
        certified(vit().configure(precision="bfloat16"), images(2, SIDE), width=5)


def test_a_model_that_cannot_drop_tokens_is_refused_where_that_is_requested() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES))
    with pytest.raises(ModelError, match="cannot drop masked tokens"):
        certified(classifier(module, side=SIDE), images(2, SIDE), width=5, unseen="dropped")


def test_a_patch_larger_than_the_image_is_refused() -> None:
    with pytest.raises(BadParameter, match="stop_at is 17; a patch on images of 16x16 pixels has 1 to 16 pixels a side"):
        certified(vit(), images(2, SIDE), width=5, stop_at=17)


def test_a_model_of_one_logit_votes_for_two_classes() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 1))
    for more in ({}, {"stop_at": 2}):
        found = certified(classifier(module, side=SIDE), images(2, SIDE), width=5, **more)
        assert (found["votes_first"] + found["votes_second"]).tolist() == found["votes"].tolist()
