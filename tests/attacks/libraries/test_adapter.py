"""Laws of every adapter of another library's attacks; no library is needed."""

from __future__ import annotations

import logging
import random
import sys
import types
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Literal, Optional, Union

import numpy as np
import pytest
import torch
from exact import Linear, classifier, images, linear
from torch import Tensor, nn

from robustvit.attacks.libraries.adapter import Library, LibraryCall, LibraryModel, adapted, parameters
from robustvit.attacks.libraries.foolbox import foolbox
from robustvit.attacks.libraries.pyautoattack import pyautoattack
from robustvit.attacks.libraries.torchattacks import torchattacks
from robustvit.errors import BudgetExceeded, GradientAbsent, MissingExtra, PixelRange, RobustvitError
from robustvit.evaluation import run as runner
from robustvit.primitives.attack_search import GRADIENTS
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.scenario import Outcome, scenario
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard
from robustvit.spec.plugin import Adapted, Entry
from robustvit.spec.spec import Spec

NODES = {
    "torchattacks": "torchattacks/PGD: {eps: 8/255, steps: 3}",
    "pyautoattack": "pyautoattack/apgd-ce: {eps: 8/255, n_iter: 3}",
    "foolbox": "foolbox/L2DeepFoolAttack: {steps: 3}",
}
IDS = tuple(str(i) for i in range(6))


def of(craft) -> Adapted:  # type: ignore[no-untyped-def]
    return adapted(Library("shop", types.ModuleType("shop"), "1.2"), "pear", [], craft, "")


def attacked(craft, model=None, **params: object) -> Outcome:  # type: ignore[no-untyped-def]
    model = model or linear()[0]
    made = of(craft)
    entry = Entry("attack", "shop/pear", "", "", made.params, "", "", 0, live=made.function)
    spec = Spec("shop/pear", tuple(sorted({"library": "1.2", **params}.items())), "attack", 1)
    batch = Batch(images(6), model(images(6)).argmax(dim=1), IDS)
    return scenario(entry, spec)(model, batch, Draws(0, "x", IDS))


@pytest.mark.parametrize("adapter", [torchattacks, pyautoattack, foolbox], ids=lambda one: one.__name__)
def test_a_missing_library_is_named_with_how_to_install_it(adapter, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    for module in (adapter.__name__, f"{adapter.__name__}.attacks"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'robustvit\[{adapter.__name__}\]'"):
        adapter("PGD")


def test_what_exceeds_the_budget_is_refused_in_the_norm_that_is_named() -> None:
    over = lambda call: call.images + 0.03  # noqa: E731
    assert attacked(over, eps=0.031, norm="linf").images is not None
    with pytest.raises(BudgetExceeded, match=r"shop/pear returned a perturbation of l2 0\.2078 for sample 0; its budget is eps = 0\.2000"):
        attacked(over, eps=0.2, norm="l2")


def test_pixels_outside_the_range_are_refused_when_they_are_returned() -> None:
    with pytest.raises(PixelRange, match="the images that attack 'shop/pear' returns"):
        attacked(lambda call: call.images + 0.5)


def test_an_error_inside_the_library_names_the_library() -> None:
    def broken(call: LibraryCall) -> Tensor:
        raise ZeroDivisionError("division by zero")

    with pytest.raises(
        RobustvitError, match=r"attack 'shop/pear': shop 1\.2 failed on 6 samples of model 'exact': ZeroDivisionError: division"
    ):
        attacked(broken)


def test_the_same_batch_and_seed_get_the_same_numbers_and_another_seed_others() -> None:
    def noisy(call: LibraryCall) -> Tensor:
        return (call.images + 0.1 * torch.rand_like(call.images) + 0.1 * np.random.rand() + 0.1 * random.random()).clamp(0, 1)

    model, labels = linear()[0], torch.zeros(6, dtype=torch.int64)
    made = [of(noisy).function(model, images(6), labels, Draws(seed, "x", IDS), library="1.2").images for seed in (3, 3, 4)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_the_global_generators_are_restored() -> None:
    def drawn() -> tuple[float, float, float]:
        return float(torch.rand(1)), float(np.random.rand()), random.random()

    states = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    expected = drawn()
    torch.random.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
    attacked(lambda call: (drawn(), call.images)[1])
    assert drawn() == expected


def test_what_a_library_prints_goes_to_the_log(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "robustvit"):
        attacked(lambda call: (print("step 1"), call.images)[1])
    assert capsys.readouterr().out == ""
    assert "shop/pear: step 1" in caplog.text


def test_pixels_outside_the_range_get_the_logits_of_the_clipped_ones_and_the_gradient_passes() -> None:
    model, weight = linear()
    wrapped, outside = LibraryModel(model), torch.full((2, 3, 4, 4), 1.7, requires_grad=True)
    logits = wrapped(outside)
    assert torch.equal(logits, model(torch.ones(2, 3, 4, 4)))
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), outside)
    assert torch.allclose(gradient.flatten(1), weight.expand(2, -1))


def gradients_of(outcome: Outcome) -> list[str]:
    return [GRADIENTS[code] for code in outcome.columns["gradient"].tolist()]


def follow_gradient(call: LibraryCall) -> Tensor:
    call.images.requires_grad_()
    torch.autograd.grad(call.model(call.images).logsumexp(dim=1).sum(), call.images)
    return call.images


def test_the_columns_say_whether_a_gradient_was_used() -> None:
    assert set(gradients_of(attacked(follow_gradient))) == {"exact"}
    assert set(gradients_of(attacked(lambda call: call.images))) == {"not used"}


@pytest.mark.parametrize("flatten", [torch.round, torch.Tensor.detach], ids=["zero", "missing"])
def test_an_attack_that_needs_gradients_fails_on_a_model_without(flatten) -> None:  # type: ignore[no-untyped-def]
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Linear(torch.ones(48), -24.0)

        def forward(self, pixels: Tensor) -> Tensor:
            logits: Tensor = self.inner(flatten(pixels))
            return logits

    with pytest.raises(GradientAbsent, match="Attack it without gradients"):
        attacked(follow_gradient, classifier(Flat()))


def test_a_library_gets_the_model_in_float32() -> None:
    model = linear()[0].configure(precision="bfloat16")
    precisions = []
    attacked(lambda call: (precisions.append(call.model.classifier.precision), call.images)[1], model)
    assert precisions == ["float32"]
    assert model.precision == "bfloat16"


def test_parameters_take_what_the_constructor_takes() -> None:
    def make(  # type: ignore[no-untyped-def]
        model, eps=8 / 255, kappa=0, steps=10, sizes=(2, 10), soft=True, how: Union[Literal["a"], Literal["b"]] = "a",  # noqa: UP007
        clip: Optional[float] = None,  # noqa: UP045
    ):  # fmt: skip
        pass

    found = {one.name: one for one in parameters(make, ("model",), {"kappa": "float"})}
    assert found["eps"].default == Fraction(8, 255)
    assert {name: one.hint.text for name, one in found.items()} == {
        "eps": "a number", "kappa": "a number", "steps": "a whole number", "sizes": "a sequence of a whole number", "soft": "true or false",
        "how": "a, b", "clip": "a number or null",
    }  # fmt: skip


def test_the_version_of_the_library_is_a_parameter_that_takes_no_other() -> None:
    (version,) = of(lambda call: call.images).params
    assert (version.name, version.default, version.hint.choices) == ("library", "1.2", ("1.2",))


@pytest.mark.parametrize("name", NODES)
def test_a_suite_names_it_and_the_leaderboard_shows_the_version(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    (tmp_path / "mine.yaml").write_text(
        f"name: mine\ntitle: Mine\ndata: digits\nmetrics: [robust_accuracy]\nscenarios:\n  - {NODES[name]}\n"
    )
    summary = runner.run(tmp_path / "mine.yaml", ["demo"], store=tmp_path / "store", limit=3, batch_size=4)
    assert not summary.failed
    (row,) = leaderboard(Store(tmp_path / "store")).to_dict("records")
    assert row["scenario"] == NODES[name].partition(":")[0]
    assert f"library={metadata.version(name)}" in row["params"]
    assert runner.run(tmp_path / "mine.yaml", ["demo"], store=tmp_path / "store", limit=3, batch_size=4).computed == 0
