"""FGSM and PGD on a model whose gradient is known."""

import torch
from exact import classifier, images, linear
from torch import nn

import robustvit as rv
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
