"""Attacks and models that break the rules are caught."""

from pathlib import Path

import pytest
import torch
from exact import classifier, images, linear
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import BadParameter, BudgetExceeded, ModelError
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.model_card import fingerprint
from robustvit.primitives.scenario import scenario
from robustvit.spec.binding import bind
from robustvit.spec.plugin import Entry
from robustvit.spec.registry import lookup
from robustvit.spec.spec import Spec, parse

SUITE = "name: mine\ntitle: Mine\ndata: digits\nmetrics: [top1]\nscenarios: [clean]\n"


def attacked(function: object, model: Classifier, eps: float = 0.1) -> None:
    pixels = images(8)
    batch = Batch(pixels, linear()[0](pixels).argmax(dim=1), tuple(str(i) for i in range(8)))
    entry = Entry("attack", "mine", "mine", "mine", (), "", "", 0, live=function)  # type: ignore[arg-type]
    spec = Spec("mine", (("eps", eps),), kind="attack")
    scenario(entry, spec)(model, batch, Draws(0, "x", batch.ids))


def test_an_attack_that_overwrites_its_input_is_still_measured_from_the_clean_images() -> None:
    def blacken(model: Classifier, pixels: Tensor, labels: Tensor, draws: Draws, *, eps: float) -> Tensor:
        return pixels.mul_(0)

    with pytest.raises(BudgetExceeded):
        attacked(blacken, linear()[0])


def test_an_attack_that_changes_the_model_fails_and_the_model_is_put_back() -> None:
    def vandalise(model: Classifier, pixels: Tensor, labels: Tensor, draws: Draws, *, eps: float) -> Tensor:
        for parameter in model.parameters():
            parameter.data.zero_()
        model.model.train()
        return pixels

    model = linear()[0]
    before = fingerprint(model.model)
    with pytest.raises(ModelError, match=r"attack 'mine' changed the model it attacks \(.*model.weight"):
        attacked(vandalise, model)
    assert fingerprint(model.model) == before
    assert not model.model.training


def test_a_model_that_was_changed_after_loading_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SUITE)
    model = rv.load_model("demo")
    rv.run(tmp_path / "mine.yaml", [model], store=tmp_path / "s", settings=rv.Settings(limit=20))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0)
    done = rv.run(tmp_path / "mine.yaml", [model], store=tmp_path / "s", settings=rv.Settings(limit=20))
    assert done.computed == 20
    assert sorted(rv.leaderboard(tmp_path / "s")["value"])[0] < 50.0


def test_packed_weights_count_in_a_fingerprint() -> None:
    def packed(scale: float) -> str:
        layer = nn.Sequential(nn.Linear(4, 4))
        nn.init.constant_(layer[0].weight, scale)
        nn.init.zeros_(layer[0].bias)
        return fingerprint(torch.ao.quantization.quantize_dynamic(layer, {nn.Linear}, dtype=torch.qint8))

    assert packed(0.5) == packed(0.5) != packed(0.25)


def test_a_model_with_random_predictions_is_refused_before_anything_is_computed() -> None:
    class Dropping(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return nn.functional.dropout(pixels.flatten(1)[:, :4] + 1.0, 0.5, training=True)

    with pytest.raises(ModelError, match="returns different logits for the same pixels each time"):
        _ = classifier(Dropping()).outputs


def test_a_model_with_logits_that_are_not_finite_is_named_as_the_cause() -> None:
    class Broken(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels.flatten(1)[:, :2] * torch.nan

    with pytest.raises(ModelError, match="logits that are not finite numbers"):
        attacked(lambda model, pixels, *rest, eps: pixels, classifier(Broken()))


@pytest.mark.parametrize("name", ["pgd", "square"])
def test_radii_in_8_bit_levels_are_refused(name: str) -> None:
    with pytest.raises(BadParameter, match=r"eps is 8 in linf, where pixels are in .0, 1.; write 8/255"):
        bind(lookup("attack", name), parse({name: {"eps": 8}})[0])
    assert bind(lookup("attack", name), parse({name: {"eps": 8, "norm": "l2"}})[0]).get("eps") == 8


def test_a_surrogate_may_be_any_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_models.py").write_text("import robustvit as rv\n\n\ndef mine():\n    return rv.load_model('demo')\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        SUITE.replace("[clean]", "[{transfer: {surrogate: 'mine_models:mine', attack: {fgsm: {eps: 4/255}}}}]")
    )
    suite = rv.load_suite(tmp_path / "mine.yaml", allow_code=True)
    assert not rv.run(suite, ["demo"], store=tmp_path / "s", settings=rv.Settings(limit=8)).failed


def test_perturb_takes_chains_and_refuses_what_it_cannot_use() -> None:
    model, data = rv.load_model("demo"), rv.load_data("digits")
    pixels = torch.stack([model.preprocess(data[i].image) for i in range(12)])
    labels = model(pixels).argmax(dim=1)
    moved = rv.perturb(model, pixels, labels, "autoattack", eps="12/255", version="fast")
    assert not bool((model(moved).argmax(dim=1) == labels).any())
    assert float((moved - pixels).abs().max()) <= 12 / 255 + 1e-6
    with pytest.raises(BadParameter, match="perturb takes a Classifier; this is a Sequential"):
        rv.perturb(nn.Sequential(), pixels, labels, "fgsm", eps=0.1)  # type: ignore[arg-type]
    with pytest.raises(BadParameter, match="labels are class indices"):
        rv.perturb(model, pixels, labels.float(), "fgsm", eps=0.1)


def test_a_bare_module_that_takes_no_images_of_the_assumed_size_says_so() -> None:
    with pytest.raises(ModelError, match=r"'Linear' raised RuntimeError: .*224x224 pixels.*rv\.Classifier\(module, size=…\)"):
        rv.run("quick", [nn.Linear(2, 2)])


def test_a_model_whose_randomness_is_bound_to_samples_is_accepted() -> None:
    class Keyed(Classifier):
        def bound(self, draws: Draws) -> Classifier:
            return self

    class Dropping(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return nn.functional.dropout(pixels.flatten(1)[:, :4] + 1.0, 0.5, training=True)

    plain = classifier(Dropping())
    assert Keyed(plain.model, mean=(0.0,) * 3, std=(1.0,) * 3, view=plain.view, card=plain.card).outputs == 4
