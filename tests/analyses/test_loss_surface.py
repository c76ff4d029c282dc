"""The loss surface of models whose gradients are exact, masked, surrogate, noisy or absent."""

from collections.abc import Callable

import pytest
import torch
from exact import Linear, classifier, images, linear
from torch import Tensor, nn

from robustvit.analyses.loss_surface import loss_surface
from robustvit.primitives.attack_search import GRADIENTS
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws

COUNT = 40
EXACT, ABSENT = GRADIENTS.index("exact"), GRADIENTS.index("absent")


class Around(nn.Module):
    """A network with a function before it or after it."""

    def __init__(self, change: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.change = linear()[0].model, change

    def forward(self, pixels: Tensor) -> Tensor:
        return self.change(self.inner, pixels)


def surface(model: Classifier, **more: float) -> dict[str, Tensor]:
    pixels = images(COUNT)
    labels = model(pixels).argmax(dim=1)
    return loss_surface(model, pixels, labels, Draws(0, "surface", [str(i) for i in range(COUNT)]), **more)  # type: ignore[arg-type]


def around(change: Callable[[nn.Module, Tensor], Tensor]) -> dict[str, Tensor]:
    return surface(classifier(Around(change)))


def wins(found: dict[str, Tensor]) -> int:
    return int((found["value_random_gain"] > found["value_step_gain"]).sum())


def test_the_loss_of_a_linear_model_follows_its_gradient() -> None:
    model, weight = linear()
    found = surface(model, eps=2 / 255)
    assert float(found["value_slope_error"].max()) < 1e-3
    assert torch.allclose(found["value_step_gain"], 2 / 255 * weight.abs().sum().double(), rtol=1e-3)
    assert wins(found) == 0
    assert set(found["gradient"].tolist()) == {EXACT}
    assert float(found["value_probability"].sum()) == 0


def test_a_random_step_gains_what_its_corner_gains() -> None:
    model, weight = linear()
    labels = model(images(COUNT)).argmax(dim=1)
    found = surface(model, directions=1)
    draws = Draws(0, "surface", [str(i) for i in range(COUNT)]).at("direction 0").uniform(3, 4, 4)
    away = torch.where(labels == 0, 1.0, -1.0)
    expected = torch.where(draws < 0.5, -1.0, 1.0).flatten(1) @ weight * away / 255
    assert torch.allclose(found["value_random_gain"].float(), expected, atol=1e-5)


def test_more_directions_gain_no_less() -> None:
    model = linear()[0]
    few, many = (surface(model, directions=count)["value_random_gain"] for count in (2, 6))
    assert bool((many >= few).all())
    assert bool((many > few).any())


def test_a_surrogate_slope_through_quantised_levels_is_detected() -> None:
    found = around(lambda net, x: net(x + ((x * 7).round() / 7 - x).detach()))
    assert int((found["value_slope_error"] > 0.5).sum()) > 0.9 * COUNT
    assert set(found["gradient"].tolist()) == {EXACT}


def test_large_logits_hide_nothing() -> None:
    found = around(lambda net, x: net(x) * 1e4)
    assert set(found["gradient"].tolist()) == {EXACT}
    assert float(found["value_slope_error"].max()) < 0.5
    assert wins(found) == 0


def test_a_gradient_that_is_not_finite_is_reported() -> None:
    found = around(lambda net, x: net(x) + 0.0 * torch.where(x < 0, (-x).sqrt(), 0.0).sum())
    assert set(found["gradient"].tolist()) == {GRADIENTS.index("not finite")}
    assert wins(found) > COUNT / 2


def test_logits_that_are_drawn_anew_have_no_slope() -> None:
    found = around(lambda net, x: net(x + 0.05 * torch.randn_like(x)))
    assert int((found["value_slope_error"] > 0.5).sum()) > COUNT / 2


def test_a_model_without_a_gradient_still_gains_loss() -> None:
    found = around(lambda net, x: net(x.detach()))
    assert set(found["gradient"].tolist()) == {ABSENT}
    assert wins(found) > COUNT / 2


def test_constant_logits_are_flat_without_an_error() -> None:
    found = around(lambda net, x: net(x) * 0)
    assert float(found["value_slope_error"].max()) == 0
    assert wins(found) == 0


def test_probabilities_are_distinguished_from_logits() -> None:
    assert float(around(lambda net, x: net(x).softmax(dim=1))["value_probability"].min()) == 1
    assert float(around(lambda net, x: net(x).log_softmax(dim=1))["value_probability"].max()) == 0


def test_a_surrogate_gradient_is_reported() -> None:
    model = linear()[0]
    model.gradient = "straight-through"
    assert set(surface(model)["gradient"].tolist()) == {GRADIENTS.index("straight-through")}


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_images_are_measured_inside_the_range(level: float) -> None:
    model = classifier(Linear(torch.linspace(-1, 1, 48), 0.1))
    pixels = torch.full((3, 3, 4, 4), level)
    found = loss_surface(model, pixels, torch.tensor([0, 1, 0]), Draws(0, "x", ["a", "b", "c"]))
    assert float(found["value_slope_error"].max()) < 1e-2


def test_a_row_does_not_depend_on_its_companions() -> None:
    model, pixels = linear()[0], images(9)
    labels = torch.arange(9) % 2
    draws = Draws(0, "x", [str(i) for i in range(9)])
    some = torch.tensor([7, 2, 5])
    whole = loss_surface(model, pixels, labels, draws)
    part = loss_surface(model, pixels[some], labels[some], draws[some])
    assert all(torch.equal(part[name], whole[name][some]) for name in whole)
