"""Attacks of torchattacks beside our own, on a model whose margins are known."""

from __future__ import annotations

import pytest
import torch
from libraries import adversarial, attacked
from torch import Tensor

from robustvit.cli.commands.catalogue import plugin_page
from robustvit.errors import BadParameter, BudgetExceeded, UnknownName
from robustvit.spec.binding import bind
from robustvit.spec.registry import scenario_entry
from robustvit.spec.spec import parse

theirs = pytest.importorskip("torchattacks", reason="torchattacks is not installed: robustvit[torchattacks]")


def takes(name: str) -> set[str]:
    return {param.name for param in scenario_entry(name).params}


@pytest.mark.parametrize("name", ["FGSM", "PGD", "BIM", "MIFGSM", "NIFGSM", "PGDRS", "PIFGSM", "Square"])
def test_budget_and_range_hold_in_linf(name: str) -> None:
    brief = {"steps": 20, "n_queries": 50, "num_iter_set": 10}
    found = attacked(f"torchattacks/{name}", **{key: value for key, value in brief.items() if key in takes(f"torchattacks/{name}")})
    assert not bool(found.fooled[found.needed > found.needed.median() * 1.001].any())
    assert 0 < float(found.sizes["linf"].max()) <= float(found.needed.quantile(0.5)) + 1e-6


def test_pgd_fools_the_model_where_ours_does() -> None:
    their, our = attacked("torchattacks/PGD", steps=40), attacked("pgd", steps=40)
    assert torch.equal(their.fooled, our.fooled)
    assert bool(their.fooled.any())


def test_pgd_in_l2_fools_what_it_can_and_nothing_else() -> None:
    found = attacked("torchattacks/PGDL2", "l2", steps=40)
    eps = float(found.needed.quantile(0.5))
    assert bool(found.fooled[found.needed < eps * 0.98].all())
    assert float(found.sizes["l2"].max()) <= eps + 1e-5


def test_a_minimum_norm_attack_needs_no_radius() -> None:
    found = attacked("torchattacks/DeepFool", "l2", share=None)
    assert bool(found.fooled.all())
    assert torch.allclose(found.sizes["l2"].float(), found.needed, rtol=0.03)


def test_targeted_attacks_aim_at_no_more_classes_than_there_are() -> None:
    assert bool(attacked("torchattacks/FAB", multi_targeted=True, steps=10).fooled.any())


def test_the_same_seed_gets_the_same_images() -> None:
    first, again, other = (adversarial("torchattacks/PGD", seed, steps=2) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_class_that_goes_over_its_budget_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    class Greedy(theirs.FGSM):  # type: ignore[misc, name-defined]
        """Distance Measure : Linf"""

        def forward(self, images: Tensor, labels: Tensor) -> Tensor:
            return images + 2 * self.eps

    monkeypatch.setattr(theirs, "Greedy", Greedy, raising=False)
    monkeypatch.setattr(theirs, "__all__", [*theirs.__all__, "Greedy"])
    with pytest.raises(BudgetExceeded, match=r"torchattacks/Greedy returned a perturbation of linf"):
        attacked("torchattacks/Greedy")


def test_the_radius_is_called_eps_and_the_norm_is_the_one_the_class_names() -> None:
    about = {
        name: {param.name: param for param in scenario_entry(f"torchattacks/{name}").params} for name in ("PIFGSM", "PGDL2", "APGD", "GN")
    }
    assert about["PIFGSM"]["eps"].default is not None
    assert "max_epsilon" not in about["PIFGSM"]
    assert about["PGDL2"]["norm"].hint.choices == ("l2",)
    assert about["APGD"]["norm"].hint.choices == ("linf", "l2")
    assert not {"eps", "norm", "model", "seed", "verbose"} & set(about["GN"])


def test_unknown_names_and_parameters_get_the_nearest() -> None:
    with pytest.raises(UnknownName, match=rf"^x\.yaml:3: torchattacks {theirs.__version__} has no attack 'pgd' .* Did you mean 'PGD'\?"):
        scenario_entry("torchattacks/pgd", "x.yaml:3")
    with pytest.raises(UnknownName, match="no attack 'LGV' that can run here"):
        scenario_entry("torchattacks/LGV")
    with pytest.raises(BadParameter, match=r"attack 'torchattacks/PGD' has no parameter 'step'\. Did you mean 'steps'"):
        bind(scenario_entry("torchattacks/PGD"), parse({"torchattacks/PGD": {"step": 1}})[0])


def test_the_entry_lists_parameters_defaults_and_the_version_of_the_library() -> None:
    page = plugin_page(scenario_entry("torchattacks/PGD"))
    assert page["parameters"]["eps"]["default"] == "8/255"
    assert page["parameters"]["steps"] == {"takes": "a whole number", "default": "10", "required": False}
    assert page["parameters"]["library"]["default"] == theirs.__version__
    assert page["licence"] == "MIT"
