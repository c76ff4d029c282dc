"""The adversarial patch's whole path on a trained network, and where it is put, against plain loops for one image at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from curved import SIDE, assert_same_path, batch, draws, logits_of, path, precise, recorded, value_and_gradient
from torch import Tensor
from torch.nn import functional

from robustvit.attacks.patch import _WAVE, adversarial_patch
from robustvit.attacks.replay import replay
from robustvit.errors import ModelError
from robustvit.primitives.adversarial_images import ImagePairs
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import to_uint8

SIZE, STEPS, STEP = 4, 7, 0.1
GRID = [(row, column) for row in range(0, SIDE, SIZE) for column in range(0, SIDE, SIZE)]


class Run(NamedTuple):
    """One patch: its queries in order, and whether the last of them fooled the model."""

    queries: list[Tensor]
    fooled: bool


def gradient_at(image: Tensor, label: int) -> Tensor:
    return value_and_gradient(lambda logits: functional.cross_entropy(logits[None], torch.tensor([label])), image)[1]


def run(image: Tensor, label: int, noise: Tensor, places: list[tuple[int, int]]) -> Run:
    """Signed ascent from noise in the pixels of the patches; each iterate is queried, and the first that fools the model is the last."""
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    for row, column in places:
        mask[:, row : row + SIZE, column : column + SIZE] = True
    at, queries = torch.where(mask, noise, image), []
    for _ in range(STEPS):
        queries.append(at)
        if int(logits_of(at).argmax()) != label:
            return Run(queries, True)
        at = torch.where(mask, (at + STEP * gradient_at(at, label).sign()).clamp(0, 1), image)
    return Run(queries, False)


def salient(image: Tensor, label: int) -> list[tuple[int, int]]:
    """The cells of the grid by the gradient's magnitude inside them, the largest first."""
    magnitude = gradient_at(image, label).abs().sum(dim=0)
    return sorted(GRID, key=lambda at: -float(magnitude[at[0] : at[0] + SIZE, at[1] : at[1] + SIZE].sum()))


@pytest.fixture(scope="module")
def attacked() -> Batch:
    return batch(precise(), 6)


def noise(given: Batch) -> Tensor:
    return draws(given).at("start").uniform(3, SIDE, SIDE).double()


def crafted(given: Batch, position: str, patches: int = 1) -> tuple[object, list]:  # type: ignore[type-arg]
    with recorded() as seen:
        made = adversarial_patch(
            precise(16), given.images, given.labels, draws(given), size=SIZE, patches=patches, position=position, step=STEP, steps=STEPS  # type: ignore[arg-type]
        )  # fmt: skip
    return made, seen


@pytest.mark.parametrize("patches", [1, 3])
@pytest.mark.parametrize("position", ["random", "saliency"])
def test_each_step_is_signed_ascent_inside_the_patch(position: str, patches: int, attacked: Batch) -> None:
    made, seen = crafted(attacked, position, patches)
    fooled = set()
    for row, (image, label) in enumerate(zip(attacked.images, attacked.labels.tolist(), strict=True)):
        words = draws(attacked).at("places").words(len(GRID))[row]
        drawn = [GRID[at] for at in words.argsort(descending=True, stable=True).tolist()]
        places = (drawn if position == "random" else salient(image, label))[:patches]
        expected = run(image, label, noise(attacked)[row], places)
        fooled.add(expected.fooled)
        first = 1 if position == "saliency" else 0  # the query of the clean image
        assert_same_path(path(seen, row)[first:], expected.queries)
        assert_same_path([made.images[row]], expected.queries[-1:])  # type: ignore[attr-defined]
        assert (float(made.columns["value_patch_row"][row]), float(made.columns["value_patch_column"][row])) == places[0]  # type: ignore[attr-defined]
    assert fooled == ({True, False} if patches == 1 else fooled)


def test_the_worst_place_is_sought_from_the_most_salient_on_eight_at_a_time(attacked: Batch) -> None:
    made, seen = crafted(attacked, "worst")
    waves = set()
    for row, (image, label) in enumerate(zip(attacked.images, attacked.labels.tolist(), strict=True)):
        ranked, expected, best = salient(image, label), [image], None
        for start in range(0, len(ranked), _WAVE):
            runs = [run(image, label, noise(attacked)[row], [at]) for at in ranked[start : start + _WAVE]]
            quickest = min((len(one.queries) for one in runs if one.fooled), default=STEPS)
            expected += [one.queries[turn] for turn in range(quickest) for one in runs]
            waves.add(start // _WAVE)
            found = [at for at, one in zip(ranked[start:], runs, strict=False) if one.fooled and len(one.queries) == quickest]
            if found:
                best = found[0]
                break
        assert_same_path(path(seen, row), expected)
        at = best or ranked[0]
        assert (float(made.columns["value_patch_row"][row]), float(made.columns["value_patch_column"][row])) == at  # type: ignore[attr-defined]
    assert waves == {0, 1}


def test_every_place_is_tried_and_the_quickest_is_kept(attacked: Batch) -> None:
    made, seen = crafted(attacked, "every")
    for row, (image, label) in enumerate(zip(attacked.images, attacked.labels.tolist(), strict=True)):
        runs = [run(image, label, noise(attacked)[row], [at]) for at in GRID]
        found = path(seen, row)
        assert len(found) == sum(len(one.queries) for one in runs)
        ours, theirs = (torch.stack(one).flatten(1).sum(dim=1).sort().values for one in (found, [q for one in runs for q in one.queries]))
        assert torch.allclose(ours, theirs, atol=1e-6)
        share = sum(one.fooled for one in runs) / len(runs)
        assert float(made.columns["value_fooled_share"][row]) == pytest.approx(share)  # type: ignore[attr-defined]
        quickest = min((len(one.queries) for one in runs if one.fooled), default=-1)
        assert int(made.columns["steps"][row]) == quickest  # type: ignore[attr-defined]
        kept = next((one for one in runs if one.fooled and len(one.queries) == quickest), runs[0])
        assert_same_path([made.images[row]], kept.queries[-1:])  # type: ignore[attr-defined]


class Kept:
    """Images that an attack kept."""

    def __init__(self, clean: np.ndarray, adversarial: np.ndarray) -> None:
        self.pairs = ImagePairs(adversarial, clean)

    def images(self, ids: tuple[str, ...]) -> ImagePairs:
        return self.pairs


def test_replayed_images_are_those_that_were_kept_and_only_on_the_pixels_that_were_attacked(attacked: Batch) -> None:
    pixels = attacked.images.float()
    other = Draws(0, "other", attacked.ids).uniform(3, SIDE, SIDE)
    clean = to_uint8(pixels)
    model = precise().float()
    pixels = torch.from_numpy(clean).permute(0, 3, 1, 2).float() / 255
    with recorded() as seen:
        made = replay(model, pixels, attacked.labels, draws(attacked), of=Kept(clean, other.numpy()))
    assert torch.equal(torch.stack([one.pixels for one in seen]), other)
    assert torch.equal(made.images, other)
    assert torch.equal(made.fooled, model(other).argmax(dim=1) != attacked.labels)  # type: ignore[arg-type]
    changed = clean.copy()
    changed[2, 3, 4, 1] ^= 1
    with pytest.raises(ModelError, match="sees other clean pixels"):
        replay(model, pixels, attacked.labels, draws(attacked), of=Kept(changed, other.numpy()))
