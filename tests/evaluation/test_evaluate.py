import numpy as np
import pytest
import torch
from exact import classifier, images, linear
from torch import nn

from robustvit.errors import ModelError
from robustvit.evaluation.evaluate import evaluate
from robustvit.evaluation.prediction import check_seen
from robustvit.primitives.batch import Batch, Traits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ReadClassifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import to_uint8
from robustvit.primitives.reading import Reading, prediction_columns
from robustvit.primitives.scenario import scenario
from robustvit.spec.binding import bind
from robustvit.spec.cell import Cell
from robustvit.spec.registry import scenario_entry
from robustvit.spec.spec import Spec, parse


class Few:
    """Eight grey-noise pictures of two classes."""

    name, fingerprint, classes, source = "few", "f", ("a", "b"), "original"
    ids = tuple(f"few/{i}" for i in range(8))
    labels = np.array([0, 1] * 4)
    readings = (Reading("all", 2),)


def answered(model: Classifier, node: object = "clean", keep: tuple[str, ...] = (), show: tuple[int, ...] = ()):  # type: ignore[no-untyped-def]
    (spec,) = parse(node)
    cell = Cell(Spec("given"), "w", Spec("few"), "f", model.view, bind(scenario_entry(spec.name), spec))
    return evaluate(cell, model, Few(), to_uint8(images(8)), np.arange(8), keep=keep, show=show)  # type: ignore[arg-type]


def test_a_clean_cell_records_what_the_model_says() -> None:
    model, _ = linear()
    rows = answered(model).rows.to_pandas()
    logits = model(images(8).mul(255).round().div(255))
    assert rows["sample"].tolist() == list(Few.ids)
    assert rows["pred"].tolist() == logits.argmax(dim=1).tolist()
    expected = nn.functional.cross_entropy(logits.double(), torch.from_numpy(Few.labels), reduction="none")
    assert np.allclose(rows["nll"], expected, atol=1e-5)


def test_an_attack_records_its_sizes_and_whom_it_left_alone() -> None:
    model, _ = linear()
    rows = answered(model, {"pgd": {"eps": 0.1, "steps": 3}}).rows.to_pandas()
    right = (answered(model).rows.to_pandas()["pred"] == Few.labels).to_numpy()
    assert rows["attacked"].tolist() == right.tolist()
    assert bool((rows["linf"][right] > 0).all())
    assert bool((rows["linf"] <= 0.1 + 1e-6).all())
    assert rows["linf"][~right].tolist() == [0.0] * int((~right).sum())


def test_logits_are_kept_when_asked_and_pictures_shown() -> None:
    model, _ = linear()
    found = answered(model, keep=("logits",), show=(0, 2, 5))
    assert np.allclose(np.stack(found.rows.to_pandas()["logits"]), model(images(8).mul(255).round().div(255)), atol=1e-6)
    assert found.seen.shape == (3, 4, 4, 3)


def test_what_the_data_knows_of_a_sample_stands_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"fact_texture": [f"t{i}" for i in range(8)], "fact_real": [[i] * (i % 3) for i in range(8)], "fact_shot": np.arange(8)}
    monkeypatch.setattr(Few, "traits", Traits(facts=facts), raising=False)
    model, _ = linear()
    rows = answered(model).rows.to_pandas()
    assert rows["fact_texture"].tolist() == facts["fact_texture"]
    assert [list(some) for some in rows["fact_real"]] == facts["fact_real"]
    assert rows["fact_shot"].tolist() == list(range(8))


def test_logits_that_are_no_numbers_are_refused() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 2), torch.nan)

    with pytest.raises(ModelError, match="not finite numbers for 4 samples, first few/0"):
        answered(classifier(Broken()))


def test_judging_agrees_with_hand_computed_numbers() -> None:
    said = prediction_columns(torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), torch.tensor([1, 2]))
    p = np.exp([2.0, 1.0, 0.0]) / np.exp([2.0, 1.0, 0.0]).sum()
    assert said["pred"].tolist() == [0, 0]
    assert said["rank"].tolist() == [2, 3]
    assert said["margin"].tolist() == [-1.0, 0.0]
    assert said["top5"][0].tolist() == [0, 1, 2, -1, -1]
    assert np.allclose(said["nll"], [-np.log(p[1]), np.log(3)])
    assert np.allclose(said["brier"], [p[0] ** 2 + (1 - p[1]) ** 2 + p[2] ** 2, 2 / 3])
    assert np.allclose(said["confidence"], [p[0], 1 / 3])


class Three(nn.Module):
    """The two logits of the linear model, behind one that no label stands for and that is always the largest."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()[0].model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        two = self.inner(x)
        return torch.cat((two.amax(dim=1, keepdim=True) + 9.0, two), dim=1)


@pytest.mark.parametrize("reading", [Reading("two", 2, (1, 2)), Reading("groups", 2, groups=((1,), (2,)))], ids=["columns", "groups"])
def test_attacks_compare_labels_with_answers_as_the_data_reads_them(monkeypatch: pytest.MonkeyPatch, reading: Reading) -> None:
    node = {"pgd": {"eps": 0.05, "steps": 5}}
    plain = answered(linear()[0], node).rows.to_pandas()
    monkeypatch.setattr(Few, "readings", (reading,))
    read = answered(classifier(Three()), node).rows.to_pandas()
    assert plain["attacked"].any()
    for column in ("attacked", "pred", "steps", "felled_by"):
        assert read[column].tolist() == plain[column].tolist()


class Restless(nn.Module):
    """The linear model in which the number of rows of a call, or the number of the call, moves every logit: what nothing keys."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.inner, self.by, self.calls = linear()[0].model, by, 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.by == "batch":
            pixels = pixels - pixels.mean(dim=0, keepdim=True) + 0.5
        logits: torch.Tensor = self.inner(pixels)
        return logits.flip(1) if self.by == "call" and self.calls % 3 == 0 else logits


@pytest.mark.parametrize("by", ["batch", "call"])
def test_a_prediction_that_is_not_what_the_attack_saw_fails_the_cell(by: str) -> None:
    model = classifier(Restless(by))
    _ = model.outputs
    with pytest.raises(ModelError, match=r"model 'exact' predicts \d of 8 images otherwise than 'pgd' saw it.*chance that nothing keys"):
        answered(model, {"pgd": {"eps": 0.05, "steps": 4}})


def test_a_prediction_that_differs_by_rounding_is_no_alarm() -> None:
    batch = Batch(images(3), torch.tensor([0, 0, 0]), ("a", "b", "c"))
    seen, model = torch.tensor([1, 1, 0], dtype=torch.int8), linear()[0]
    check_seen(seen, torch.tensor([[1.0, 1.001], [1.0, 0.0], [0.0, 1.0]]), batch, model, "pgd")
    with pytest.raises(ModelError, match=r"predicts 1 of 3 images .* first a"):
        check_seen(seen, torch.tensor([[1.0, 1.01], [1.0, 0.0], [0.0, 1.0]]), batch, model, "pgd")
    with pytest.raises(ModelError, match=r"predicts 1 of 3 images .* first c"):
        check_seen(seen, torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), batch, model, "pgd")
    check_seen(torch.full((3,), -1, dtype=torch.int8), torch.tensor([[0.0, 1.0]] * 3), batch, model, "mine")


def test_a_deterministic_model_has_no_columns_of_draws() -> None:
    assert not {"draws", "draws_right"} & set(answered(linear()[0], {"pgd": {"eps": 0.1, "steps": 3}}).rows.column_names)


def test_a_model_of_one_class_is_not_attacked() -> None:
    class Two(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.flatten(1)[:, :2]

    one = ReadClassifier(classifier(Two()), Reading("one", 1, (0,)))
    for name in ("fab", "fab_t", "pgd"):
        entry = scenario_entry(name)
        spec = bind(entry, parse({name: {"eps": 0.1}})[0])
        batch = Batch(images(2), torch.tensor([0, 0]), ("a", "b"))
        with pytest.raises(ModelError, match=f"attack '{name}': model 'exact' has 1 class, so that nothing can be misclassified"):
            scenario(entry, spec)(one, batch, Draws(0, "x", batch.ids))
