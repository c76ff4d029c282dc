"""Visual words, beside the same choices by loops over patches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import vits
from reduction import ledger, reference
from torch import Tensor
from torch.nn.functional import cosine_similarity

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.transforms.token_reduction.evit import evit
from robustvit.transforms.token_reduction.visual_words import VariedPatches, fit_vocabulary, visual_words

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]


def varied(keep: float):
    """The patches of the largest variance, in their order."""

    def start(tokens: Tensor, image: Tensor) -> list[int]:
        rows = [image[:, 8 * (at // 4) : 8 * (at // 4) + 8, 8 * (at % 4) : 8 * (at % 4) + 8] for at in range(16)]
        variance = [float(((row - row.mean()) ** 2).mean()) for row in rows]
        return sorted(sorted(range(16), key=lambda at: -variance[at])[: math.ceil(16 * keep)])

    return start


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_it_is_the_same_choice_by_loops(make, keep) -> None:
    host, pixels = vits.made(vits.HOSTS[make]), vits.images(vits.TILE)
    wanted = reference(host, pixels, start=varied(keep))
    made = visual_words(host, {}, keep=keep)
    assert torch.allclose(made(pixels), wanted.logits, atol=1e-4)
    assert made.model.counted["tokens"].tolist() == wanted.counts


def test_plain_patches_are_dropped() -> None:
    host, pixels = vits.made(vits.vit), torch.full((1, 3, 32, 32), 0.5)
    pixels[:, :, 8:16] = vits.images(1)[:, :, 8:16]
    pixels[:, 0, :8, :8] = 0.4  # the same colour everywhere, but channels apart: normalisation brings variance
    made = visual_words(host, {}, keep=0.25)
    made(pixels)
    assert made.model.patches_left[0].nonzero()[:, 0].tolist() == [4, 5, 6, 7]
    made(torch.full((1, 3, 32, 32), 0.5))
    assert made.model.patches_left[0].nonzero()[:, 0].tolist() == [0, 1, 2, 3]


def test_patches_that_are_not_square() -> None:
    host, pixels = vits.made(lambda: vits.vit(patch_size=(4, 16))), vits.images(1) * 0.1
    pixels[:, :, 4:8, 16:] *= 9.0
    made = visual_words(host, {}, keep=1 / 16)
    made(pixels)
    assert made.model.patches_left[0].nonzero()[:, 0].tolist() == [3]


def test_the_cost_is_that_of_the_patches_that_stay() -> None:
    tokens, macs, everything = ledger("small", VariedPatches(0.5, (16, 16)))
    assert tokens == [99] * 12
    assert everything == pytest.approx(macs, rel=1e-6)


def test_other_reducers_go_on_from_there() -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    made = evit(visual_words(host, {}, keep=0.5), keep=0.5, blocks=(1,))
    made(pixels)
    assert made.model.counted["tokens"][0].tolist() == [9.0, 6.0, 6.0]
    twice = visual_words(visual_words(host, {}, keep=0.5), {}, keep=0.5)
    assert torch.equal(twice(pixels), visual_words(host, {}, keep=0.25)(pixels))


class Patterns:
    """Images of four patterns, one in each quarter; every image has its own noise."""

    name, classes, ids, labels = "patterns", tuple("abcde"), tuple(map(str, range(8))), np.arange(8) % 5

    def __len__(self) -> int:
        return 8


def patterned(rows: int, noise: float = 0.05) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    kinds = torch.rand(4, 3, 8, 8, generator=generator)
    image = torch.cat([torch.cat([kinds[2 * (y // 2) + x // 2] for x in range(4)], dim=2) for y in range(4)], dim=1)
    return (image + noise * torch.rand(rows, 3, 32, 32, generator=generator)).clamp(0, 1)


def load(data: Patterns, positions: np.ndarray) -> Batch:
    return Batch(patterned(8)[positions], torch.from_numpy(data.labels[positions]), tuple(data.ids[at] for at in positions))


def learned(host, **settings) -> dict[str, Tensor]:
    given = {"kind": "inter", "keep": 0.5, "words": 4, "threshold": 0.1, "calibration": Patterns(), "samples": 8} | settings
    return fit_vocabulary(host, load, Draws(0, "learn", ["learn"]), **given)


def worded(words: Tensor, threshold: float):
    """Gee et al., section 3.2: which word each patch of an image is, and tokens averaged by word."""

    def groups(image: Tensor) -> list[list[int]]:
        found: dict[object, list[int]] = {}
        for at in range(16):
            patch = image[:, 8 * (at // 4) : 8 * (at // 4) + 8, 8 * (at % 4) : 8 * (at % 4) + 8].flatten()
            apart = [1 - float(cosine_similarity(patch, word, dim=0)) for word in words]
            found.setdefault(apart.index(min(apart)) if min(apart) <= threshold else f"patch {at}", []).append(at)
        return list(found.values())

    return groups


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize("threshold", [0.6, 0.9])
def test_tokens_of_one_word_are_averaged_as_by_loops(make, threshold) -> None:
    host, pixels = vits.made(vits.HOSTS[make], sharp=2.0), vits.images(vits.TILE)
    words = torch.randn(300, 192, generator=torch.Generator().manual_seed(0))  # more words than numbers in a patch
    words[192:196] = ((pixels - host.mean) / host.std)[:, :, 8:16, 24:].flatten(1)  # the eighth patch of each image
    made = visual_words(host, {"words": words}, kind="inter", threshold=threshold)
    logits, vit = made(pixels), host.model
    for row, image in enumerate((pixels - host.mean) / host.std):
        of = worded(words, threshold)(image)
        tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(image[None])))
        prefix = vit.num_prefix_tokens
        joined = [tokens[:, prefix:][:, one].mean(dim=1) for one in of]
        short = vit.blocks(torch.cat((tokens[:, :prefix], torch.stack(joined, dim=1)), dim=1))
        if vit.global_pool == "avg":
            sizes = torch.tensor([float(len(one)) for one in of])[None, :, None]
            short = (vit.norm(short)[:, prefix:] * sizes).sum(dim=1) / 16
            wanted = vit.head(vit.fc_norm(short))
        else:
            wanted = vit.forward_head(vit.norm(short))
        assert torch.allclose(logits[row], wanted[0], atol=1e-4)
        assert made.model.counted["tokens"][row].tolist() == [prefix + len(of)] * 2
        assert made.model.patches_left[row].nonzero()[:, 0].tolist() == [one[0] for one in of]


def test_a_vocabulary_finds_the_patterns_and_every_image_keeps_one_token_of_each() -> None:
    host = vits.made(vits.vit)
    made = visual_words(host, learned(host), kind="inter")
    made(patterned(3))
    assert made.model.counted["tokens"].tolist() == [[5.0] * 3] * 3 + [[17.0] * 3]  # the row that fills the tile is black all over
    made(vits.images(4))
    assert made.model.counted["tokens"].tolist() == [[17.0] * 3] * 4


def test_a_vocabulary_repeats_itself_and_is_in_the_state() -> None:
    host = vits.made(vits.vit)
    found = learned(host)
    assert torch.equal(found["words"], learned(host)["words"])
    other = visual_words(host, {"words": torch.zeros(4, 192)}, kind="inter")
    other.load_state_dict(visual_words(host, found, kind="inter").state_dict())
    assert torch.equal(other(patterned(3)), visual_words(host, found, kind="inter")(patterned(3)))
    double = visual_words(vits.made(vits.vit).double(), found, kind="inter")
    assert torch.allclose(double(patterned(3)).float(), other(patterned(3)), atol=1e-3)


@pytest.mark.parametrize(("settings", "message"), [
    ({"calibration": None}, "kind inter takes calibration"), ({"words": 200}, "words is 200; .* calibration have 128 patches"),
])  # fmt: skip
def test_a_vocabulary_that_cannot_be_learned_is_refused(settings, message) -> None:
    with pytest.raises(BadParameter, match=message):
        learned(vits.made(vits.vit), **settings)
