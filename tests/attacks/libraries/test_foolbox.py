"""Attacks of Foolbox beside our own, on a model whose margins are known."""

from __future__ import annotations

import pytest
import torch
from libraries import adversarial, attacked

from robustvit.errors import BadParameter, BudgetExceeded, UnknownName
from robustvit.spec.binding import bind
from robustvit.spec.registry import scenario_entry
from robustvit.spec.spec import parse

pytest.importorskip("foolbox", reason="foolbox is not installed: robustvit[foolbox]")


def test_pgd_fools_the_model_where_ours_does() -> None:
    their, our = attacked("foolbox/LinfPGD", steps=80), attacked("pgd", steps=80)
    assert torch.equal(their.fooled, our.fooled)
    assert bool(their.fooled.any())


@pytest.mark.parametrize(("name", "norm"), [("L2PGD", "l2"), ("LinfFastGradientAttack", "linf"), ("L1FastGradientAttack", "l1")])
def test_an_attack_on_a_radius_keeps_it_and_fools_nothing_beyond(name: str, norm: str) -> None:
    found = attacked(f"foolbox/{name}", norm)
    eps = float(found.needed.quantile(0.5))
    assert float(found.sizes[norm].max()) <= eps + 1e-5
    assert not bool(found.fooled[found.needed > eps * 1.001].any())


@pytest.mark.parametrize(("name", "norm"), [("L2CarliniWagnerAttack", "l2"), ("L2DeepFoolAttack", "l2"), ("LInfFMNAttack", "linf")])
def test_without_a_radius_a_minimisation_attack_finds_the_nearest(name: str, norm: str) -> None:
    found = attacked(f"foolbox/{name}", norm, share=None, steps=40)
    assert bool(found.fooled.all())
    assert bool((found.sizes[norm] >= found.needed * 0.999).all())


def test_with_a_radius_a_minimisation_attack_stays_inside_it() -> None:
    found = attacked("foolbox/L2DeepFoolAttack", "l2", steps=20)
    assert float(found.sizes["l2"].max()) <= float(found.needed.quantile(0.5)) + 1e-5
    assert 0 < int(found.fooled.sum()) < len(found.fooled)


def test_an_attack_that_leaves_its_ball_is_caught_before_the_library_clips_it() -> None:
    """LinfAdditiveUniformNoiseAttack scales noise by its largest value, not its largest absolute value."""
    with pytest.raises(BudgetExceeded, match="foolbox/LinfAdditiveUniformNoiseAttack returned a perturbation of linf"):
        attacked("foolbox/LinfAdditiveUniformNoiseAttack", count=64)


def test_the_norm_is_the_distance_of_the_class() -> None:
    choices = {
        name: next(param.hint.choices for param in scenario_entry(f"foolbox/{name}").params if param.name == "norm")
        for name in ("LinfPGD", "L1FMNAttack", "L0FMNAttack", "GaussianBlurAttack", "HopSkipJumpAttack", "LinfAdditiveUniformNoiseAttack")
    }
    assert list(choices.values()) == [("linf",), ("l1",), ("l0",), ("l2", "linf", "l1"), ("l2", "linf"), ("linf",)]


def test_a_radius_is_required_where_the_attack_needs_one() -> None:
    with pytest.raises(BadParameter, match="attack 'foolbox/LinfPGD' needs 'eps'"):
        bind(scenario_entry("foolbox/LinfPGD"), parse({"foolbox/LinfPGD": {"steps": 3}})[0])
    assert not {"eps"} & {param.name for param in scenario_entry("foolbox/L0FMNAttack").params}


def test_a_class_that_needs_more_than_a_model_and_images_is_unknown() -> None:
    with pytest.raises(UnknownName, match="no attack 'DatasetAttack' that can run here"):
        scenario_entry("foolbox/DatasetAttack")
    with pytest.raises(UnknownName, match=r"no attack 'LinfPDG' that can run here\. Did you mean 'LinfPGD'"):
        scenario_entry("foolbox/LinfPDG")


def test_the_same_seed_gets_the_same_images() -> None:
    first, again, other = (adversarial("foolbox/LinfPGD", seed, steps=2) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
