"""pyautoattack's AutoAttack and its parts as scenarios."""

from __future__ import annotations

import pytest
import torch
from exact import classifier, images
from libraries import adversarial, attacked
from torch import nn

import robustvit as rv
from robustvit.errors import ModelError, UnknownName
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import scenario_entry

pytest.importorskip("pyautoattack", reason="pyautoattack is not installed: robustvit[pyautoattack]")


@pytest.mark.parametrize(("norm", "name"), [("linf", "apgd-ce"), ("l2", "apgd-ce"), ("linf", "fab"), ("l2", "fab-t"), ("l1", "fab")])
def test_every_sample_in_reach_is_fooled_and_no_other(norm: str, name: str) -> None:
    found = attacked(f"pyautoattack/{name}", norm, norm=norm, n_iter=40)
    eps = float(found.needed.quantile(0.5))
    assert not bool(found.fooled[found.needed > eps * 1.001].any())
    assert bool(found.fooled[found.needed < eps * 0.98].all())


def test_apgd_fools_the_model_where_ours_does() -> None:
    assert torch.equal(attacked("pyautoattack/apgd-ce", n_iter=50).fooled, attacked("apgd_ce", steps=50).fooled)


def test_square_uses_no_gradient() -> None:
    found = attacked("pyautoattack/square", n_queries=60)
    assert bool(found.fooled.any())
    assert {name: set(found.outcome.columns[name].tolist()) for name in ("queries", "gradient")} == {"queries": {-1}, "gradient": {3}}


def test_a_loss_that_compares_more_classes_than_there_are_is_refused() -> None:
    with pytest.raises(ModelError, match="'pyautoattack/apgd-t' compares 4 classes or more; model 'exact' has 2"):
        attacked("pyautoattack/apgd-t")
    with pytest.raises(ModelError, match="'pyautoattack/standard' compares 4 classes"):
        attacked("pyautoattack/standard")


def test_the_same_seed_gets_the_same_images_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (adversarial("pyautoattack/square", seed, share=0.9, n_queries=30) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["standard", "rand"])
def test_a_version_runs_whole_on_fewer_than_ten_classes(name: str) -> None:
    layer = nn.Linear(48, 5)
    layer.weight.data = Draws(0, "five", ["w"]).normal(5, 48)[0]
    layer.bias.data = -layer.weight.sum(dim=1).detach() / 2
    model, pixels = classifier(nn.Sequential(nn.Flatten(), layer)), images(4)
    labels = model(pixels).argmax(dim=1)
    crafted = rv.perturb(model, pixels, labels, f"pyautoattack/{name}", eps="32/255")
    assert not bool((model(crafted).argmax(dim=1) == labels).any())
    assert float((crafted - pixels).abs().max()) <= 32 / 255 + 1e-6


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"has no attack 'apgd_ce' that can run here\. Did you mean 'apgd-ce'"):
        scenario_entry("pyautoattack/apgd_ce")


def test_parts_have_the_parameters_of_their_class_as_autoattack_sets_them() -> None:
    params = {param.name: param for param in scenario_entry("pyautoattack/square").params}
    assert params["eps"].required
    assert params["resc_schedule"].default is False
    assert {param.name for param in scenario_entry("pyautoattack/standard").params} == {"eps", "norm", "library"}
    assert "n_target_classes" not in {param.name for param in scenario_entry("pyautoattack/fab").params}
