"""FGSM and PGD on a model whose gradient is known."""

import pytest
import torch
from exact import classifier, images, linear
from torch import nn

import robustvit as rv
from robustvit.attacks.apgd import apgd_ce, apgd_dlr, apgd_t
from robustvit.attacks.fgsm_pgd import fgsm, pgd
from robustvit.primitives.draws import Draws

IDS = tuple(str(i) for i in range(12))


def test_fgsm_is_one_signed_step() -> None:
    model, weight = linear()
    pixels = images(12)
    labels = torch.ones(12, dtype=torch.int64)
    crafted = fgsm(model, pixels, labels, Draws(0, "x", IDS), eps=0.01).images
    right = model(pixels).argmax(dim=1) == labels
    assert torch.allclose((crafted - pixels)[right], -0.01 * weight.sign().view(1, 3, 4, 4).expand_as(pixels)[right], atol=1e-6)


def test_pgd_stops_at_the_first_misclassified_iterate() -> None:
    model, _ = linear()
    pixels = images(12)
    labels = model(pixels).argmax(dim=1)
    crafted = pgd(model, pixels, labels, Draws(0, "x", IDS), eps=0.3, steps=20)
    few = pgd(model, pixels, labels, Draws(0, "x", IDS), eps=0.3, steps=20, restarts=3)
    fooled = model(crafted.images).argmax(dim=1) != labels
    assert bool(fooled.any())
    assert torch.equal(crafted.images[fooled], few.images[fooled])


def test_a_sample_gets_the_same_image_in_any_batch() -> None:
    model, _ = linear()
    pixels = images(12)
    labels, draws = model(pixels).argmax(dim=1), Draws(0, "x", IDS)
    whole = pgd(model, pixels, labels, draws, eps=0.05, steps=5)
    part = pgd(model, pixels[5:9], labels[5:9], draws[torch.arange(5, 9)], eps=0.05, steps=5)
    assert torch.equal(whole.images[5:9], part.images)
    assert all(torch.equal(whole.columns[name][5:9], part.columns[name]) for name in whole.columns)


def test_the_columns_count_queries_and_gradients() -> None:
    model, _ = linear()
    pixels = images(12)
    labels = model(pixels).argmax(dim=1)
    columns = pgd(model, pixels, labels, Draws(0, "x", IDS), eps=0.02, steps=7).columns
    robust = columns["steps"] < 0
    assert set(columns["gradients"][robust].tolist()) == {7}
    assert set(columns["queries"][robust].tolist()) == {8}
    assert bool((columns["queries"][~robust] == columns["steps"][~robust]).all())


def test_half_precision_only_searches_and_float32_decides() -> None:
    """The demo in bfloat16: what an attack counts as misclassified is so in float32, for about as many samples."""
    demo, data = rv.load_model("demo"), rv.load_data("digits")
    pixels = torch.stack([demo.preprocess(data[i].image) for i in range(40)])
    labels = demo(pixels).argmax(dim=1)
    fooled = {}
    for precision in ("float32", "bfloat16"):
        demo.configure(precision=precision)
        made = pgd(demo, pixels, labels, Draws(0, "x", [str(i) for i in range(40)]), eps=2 / 255, steps=10)
        demo.configure(precision="float32")
        fooled[precision] = made.columns["steps"] >= 0
        assert torch.equal(fooled[precision], demo(made.images).argmax(dim=1) != labels)
    assert abs(int(fooled["bfloat16"].sum()) - int(fooled["float32"].sum())) <= 4
    assert 0 < int(fooled["bfloat16"].sum()) < 40


def test_what_only_half_precision_gets_wrong_is_not_misclassified() -> None:
    class Wavering(nn.Module):
        """Right in float32, wrong in lower precision."""

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            scores = pixels.flatten(1)[:, :2] * 0.0 + torch.tensor([1.0, 0.0])
            return scores.flip(1) if torch.is_autocast_enabled("cpu") else scores

    model = classifier(Wavering()).configure(precision="bfloat16")
    made = pgd(model, images(12), torch.zeros(12, dtype=torch.int64), Draws(0, "x", IDS), eps=0.05, steps=3)
    assert set(made.columns["steps"].tolist()) == {-1}


class Triple(torch.nn.Module):
    """Three classes: the label's logit is 1, the second rises with the first pixel, the third with the second pixel and from far below."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        flat = pixels.flatten(1)
        return torch.stack((torch.ones(len(flat)), 4.0 * flat[:, 0] - 1.0, 4.0 * flat[:, 1] - 2.0), dim=1)


@pytest.mark.parametrize("attack", [pgd, apgd_ce, apgd_dlr])
@pytest.mark.parametrize(("target", "pixel"), [("second", 0), ("least_likely", 1)])
def test_a_targeted_attack_moves_what_raises_its_target(attack, target: str, pixel: int) -> None:  # type: ignore[no-untyped-def]
    model, pixels = classifier(Triple()), torch.full((2, 3, 4, 4), 0.4)
    labels, draws = torch.tensor([0, 0]), Draws(0, "x", ["a", "b"])
    moved = attack(model, pixels, labels, draws, eps=0.2, steps=20, target=target).images
    assert bool(((moved - pixels).flatten(1)[:, pixel] > 0.1).all())
    assert model(moved).argmax(dim=1).tolist() == ([1, 1] if target == "second" else [0, 0])


def test_targeted_apgd_on_three_classes_reaches_the_class_that_comes_last() -> None:
    pixels = torch.full((2, 3, 4, 4), 0.4)
    pixels[:, 0, 0, 0] = 0.3  # of class 1, whose pixel is then held down by the ball

    class Held(Triple):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits = super().forward(pixels)
            return torch.stack((logits[:, 0], logits[:, 1].clamp(max=0.5), logits[:, 2]), dim=1)

    model = classifier(Held())
    assert model(pixels).argsort(dim=1, descending=True)[0].tolist() == [0, 1, 2]
    moved = apgd_t(model, pixels, torch.tensor([0, 0]), Draws(0, "x", ["a", "b"]), eps=0.45, steps=20).images
    assert model(moved).argmax(dim=1).tolist() == [2, 2]
