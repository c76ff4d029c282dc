import torch
from exact import images, linear

from robustvit.attacks.gradient import fgsm, input_gradient, pgd
from robustvit.draws import Draws

IDS = tuple(str(i) for i in range(12))


def test_the_gradient_of_a_linear_model_is_its_weight() -> None:
    model, weight = linear()
    pixels = images(12)
    labels = torch.ones(12, dtype=torch.int64)
    p = torch.softmax(model(pixels), dim=1)[:, 0]
    assert torch.allclose(input_gradient(model, pixels, labels).flatten(1), -p[:, None] * weight, atol=1e-6)


def test_fgsm_is_one_signed_step() -> None:
    model, weight = linear()
    pixels = images(12)
    labels = torch.ones(12, dtype=torch.int64)
    crafted = fgsm(model, pixels, labels, Draws(0, "x", IDS), eps=0.01)
    assert torch.allclose(crafted - pixels, -0.01 * weight.sign().view(1, 3, 4, 4).expand_as(pixels), atol=1e-6)


def test_pgd_stops_at_the_first_misclassified_iterate() -> None:
    model, _ = linear()
    pixels = images(12)
    labels = model(pixels).argmax(dim=1)
    crafted = pgd(model, pixels, labels, Draws(0, "x", IDS), eps=0.3, steps=20)
    few = pgd(model, pixels, labels, Draws(0, "x", IDS), eps=0.3, steps=20, restarts=3)
    fallen = model(crafted).argmax(dim=1) != labels
    assert bool(fallen.any())
    assert torch.equal(crafted[fallen], few[fallen])


def test_a_sample_gets_the_same_image_in_any_company() -> None:
    model, _ = linear()
    pixels = images(12)
    labels, draws = model(pixels).argmax(dim=1), Draws(0, "x", IDS)
    whole = pgd(model, pixels, labels, draws, eps=0.05, steps=5)
    part = pgd(model, pixels[5:9], labels[5:9], draws[torch.arange(5, 9)], eps=0.05, steps=5)
    assert torch.equal(whole[5:9], part)
