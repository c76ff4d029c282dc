"""Each out-of-distribution score against loops written from its paper, on a small network; the features of models; a board on digits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from exact import classifier
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from robustvit.analyses.ood_logits import gen, msp
from robustvit.analyses.ood_scores import fit_scores, ood_scores
from robustvit.data.formats.arrays import ArrayDataset, array_dataset
from robustvit.errors import BadParameter, ModelError
from robustvit.evaluation import run as runner
from robustvit.evaluation.images.batches import batch_of
from robustvit.evaluation.loading import load_data, load_model
from robustvit.primitives.batch import NO_CLASS, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ReadClassifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.penultimate import penultimate
from robustvit.primitives.reading import Reading
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard
from robustvit.spec.sample_order import order
from robustvit.spec.suite_file import read_suite

Array = NDArray[np.float64]
CLASSES, WIDTH, TRAIN, TEST, NEAREST = 5, 12, 160, 10, 7


@functools.cache
def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(48, WIDTH), nn.GELU(), nn.Linear(WIDTH, CLASSES))
        with torch.no_grad():
            module[1].weight.mul_(3)
            module[3].weight.mul_(6)
    return module.eval().requires_grad_(False)


@functools.cache
def training(readings: tuple[Reading, ...] = ()) -> ArrayDataset:
    rng = np.random.default_rng(1)
    levels = rng.integers(0, 256, (TRAIN, 4, 4, 3), np.uint8)
    kinds = CLASSES if not readings else readings[0].classes
    names = [str(i) for i in range(kinds)]
    return array_dataset(
        "toy", levels, rng.integers(0, kinds - 1, TRAIN), ids=[f"t{i}" for i in range(TRAIN)], classes=names, readings=readings
    )


def load_batch(data: Data, positions: NDArray[np.intp]) -> object:
    return batch_of(data, np.stack([data[i].image for i in positions.tolist()]), positions, torch.device("cpu"))


def pixels() -> Tensor:
    return torch.rand(TEST, 3, 4, 4, generator=torch.Generator().manual_seed(2))


def scored(model: Classifier, images: Tensor, train: Data | None = None, samples: int = 100) -> dict[str, Array]:
    given = {"train": train or training(), "samples": samples, "neighbours": NEAREST}
    draws = Draws(0, "x", [str(i) for i in range(len(images))])
    fitted = fit_scores(model, load_batch, draws, **given)  # type: ignore[arg-type]
    found = ood_scores(model, images, torch.zeros(len(images), dtype=torch.int64), draws, fitted, **given)  # type: ignore[arg-type]
    return {name.removeprefix("value_ood_"): values.double().numpy() for name, values in found.items()}


@functools.cache
def known() -> dict[str, Array]:
    """What the references are given: features and logits of the training images and of those that are scored, labels, the head."""
    chosen = order(training().ids)[:100]
    images = torch.stack([torch.from_numpy(training()[i].image.copy()).permute(2, 0, 1) / 255 for i in chosen.tolist()])
    body, head = network()[:-1], network()[-1]
    parts = {"h": body(images), "x": body(pixels()), "weight": head.weight, "bias": head.bias}  # type: ignore[operator,dict-item]
    found = {name: tensor.double().numpy() for name, tensor in parts.items()}
    logits = {f"{name}_logits": found[name] @ found["weight"].T + found["bias"] for name in "hx"}
    return {**found, **logits, "labels": np.asarray(training().labels)[chosen]}


def softmax(row: Array) -> Array:
    powers = np.exp(row - row.max())
    return np.asarray(powers / powers.sum())


def log_sum(row: Array) -> float:
    return float(np.log(np.exp(row).sum()))


def of_logits(score: Callable[[Array], float]) -> Array:
    return np.array([score(row) for row in known()["x_logits"]])


def unit(row: Array) -> Array:
    return np.asarray(row / np.sqrt((row**2).sum()))


def distances(relative: bool) -> Array:
    one, found = known(), []
    h, labels = one["h"], one["labels"]
    means = {label: h[labels == label].mean(axis=0) for label in set(labels.tolist())}
    within = sum(np.outer(row - means[label], row - means[label]) for row, label in zip(h, labels.tolist(), strict=True)) / len(h)
    overall = sum(np.outer(row - h.mean(axis=0), row - h.mean(axis=0)) for row in h) / len(h)
    for x in one["x"]:
        away = [(x - mean) @ np.linalg.inv(within) @ (x - mean) for mean in means.values()]
        other = (x - h.mean(axis=0)) @ np.linalg.inv(overall) @ (x - h.mean(axis=0))
        found.append(min(value - other * relative for value in away))
    return np.array(found)


def neighbour_distances() -> Array:
    one = known()
    return np.array([sorted(float(np.linalg.norm(unit(x) - unit(h))) for h in one["h"])[NEAREST - 1] for x in one["x"]])


def templates() -> Array:
    one = known()
    rows: dict[int, list[Array]] = {}
    for logits in one["h_logits"]:
        rows.setdefault(int(logits.argmax()), []).append(softmax(logits))
    means = [np.mean(many, axis=0) for many in rows.values()]
    return of_logits(lambda row: min(float((softmax(row) * np.log(softmax(row) / mean)).sum()) for mean in means))


def residuals(rows: Array) -> Array:
    one = known()
    origin = -np.linalg.pinv(one["weight"]) @ one["bias"]
    principal = np.linalg.svd(one["h"] - origin)[2][: WIDTH // 2]
    return np.array([np.linalg.norm((row - origin) - principal.T @ (principal @ (row - origin))) for row in rows])


def virtual_logits() -> Array:
    one = known()
    scale = one["h_logits"].max(axis=1).mean() / residuals(one["h"]).mean()
    return scale * residuals(one["x"]) - np.array([log_sum(row) for row in one["x_logits"]])


def clipped_energies() -> Array:
    one = known()
    clip = np.quantile(one["h"], 0.9)
    return np.array([-log_sum(one["weight"] @ np.minimum(x, clip) + one["bias"]) for x in one["x"]])


def guided() -> Array:
    one, found = known(), []
    for x, logits in zip(one["x"], one["x_logits"], strict=True):
        guides = sorted(log_sum(own) * float(unit(x) @ unit(h)) for h, own in zip(one["h"], one["h_logits"], strict=True))
        found.append(-log_sum(logits) * float(np.mean(guides[-NEAREST:])))
    return np.array(found)


REFERENCES: dict[str, Callable[[], Array]] = {
    "msp": lambda: of_logits(lambda row: 1 - float(softmax(row).max())), "max_logit": lambda: of_logits(lambda row: -float(row.max())),
    "energy": lambda: of_logits(lambda row: -log_sum(row)),
    "entropy": lambda: of_logits(lambda row: -sum(p * np.log(p) for p in softmax(row))),
    "gen": lambda: of_logits(lambda row: sum(p**0.1 * (1 - p) ** 0.1 for p in softmax(row))), "kl_matching": templates,
    "mahalanobis": lambda: distances(relative=False), "relative_mahalanobis": lambda: distances(relative=True), "knn": neighbour_distances,
    "residual": lambda: residuals(known()["x"]), "vim": virtual_logits, "react": clipped_energies, "nnguide": guided,
}  # fmt: skip


@functools.cache
def found() -> dict[str, Array]:
    return scored(classifier(network()), pixels())


def test_every_score_has_a_reference() -> None:
    assert set(found()) == set(REFERENCES)


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_a_score_is_what_its_paper_defines(name: str) -> None:
    expected = REFERENCES[name]()
    assert np.ptp(expected) > 1e-3 * np.abs(expected).max()
    assert found()[name] == pytest.approx(expected, rel=1e-4, abs=1e-5 * float(np.abs(expected).max()))


def test_gen_counts_the_hundred_largest_probabilities() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 150))
    expected = [sum(p**0.1 * (1 - p) ** 0.1 for p in sorted(softmax(row))[-100:]) for row in logits]
    assert gen(torch.from_numpy(logits)).numpy() == pytest.approx(np.array(expected), rel=1e-9)


def test_scores_of_confident_predictions_keep_their_digits() -> None:
    logits = torch.tensor([[40.0, 0.0], [41.0, 0.0]]).double()
    rest = np.exp([-40.0, -41.0])
    assert gen(logits).numpy() == pytest.approx(2 * rest**0.1, rel=1e-6)
    assert msp(logits).numpy() == pytest.approx(rest, rel=1e-6, abs=0.0)


def test_a_row_does_not_depend_on_its_companions() -> None:
    model, images = classifier(network()), pixels()
    some = torch.tensor([7, 2, 5])
    whole, part = scored(model, images), scored(model, images[some])
    assert all(np.array_equal(part[name], whole[name][some.numpy()]) for name in whole)


def test_a_direction_of_rounding_alone_is_left_out_of_the_distances() -> None:
    body, head = network()[:-1], network()[-1]
    doubled = nn.Sequential(*body, nn.Linear(WIDTH, WIDTH + 1), nn.Linear(WIDTH + 1, CLASSES)).eval()  # type: ignore[misc]
    with torch.no_grad():
        doubled[-2].weight.copy_(torch.cat([torch.eye(WIDTH), torch.linspace(-1, 1, WIDTH)[None]]))
        doubled[-2].bias.zero_()
        doubled[-1].weight.copy_(torch.cat([head.weight, torch.zeros(CLASSES, 1)], dim=1))  # type: ignore[list-item]
        doubled[-1].bias.copy_(head.bias)  # type: ignore[arg-type]
    same = scored(classifier(doubled), pixels())
    for name in ("mahalanobis", "relative_mahalanobis"):
        assert same[name] == pytest.approx(found()[name], rel=1e-3)


def test_logits_are_those_of_the_training_data_s_classes() -> None:
    reading = Reading("some", 3, columns=(4, 0, 2))
    narrow = nn.Sequential(*network()[:-1], nn.Linear(WIDTH, 3)).eval()  # type: ignore[misc]
    with torch.no_grad():
        narrow[-1].weight.copy_(network()[-1].weight[[4, 0, 2]])  # type: ignore[index]
        narrow[-1].bias.copy_(network()[-1].bias[[4, 0, 2]])  # type: ignore[index]
    data = training((reading,))
    expected = scored(classifier(narrow), pixels(), training((Reading("all", 3),)))
    wide = scored_through(reading, data)
    for name in ("msp", "max_logit", "energy", "kl_matching", "react", "nnguide", "mahalanobis"):
        assert wide[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-5)


def scored_through(reading: Reading, data: Data) -> dict[str, Array]:
    """As a run does: the fit is given the model's logits as read, the scores those of the model."""
    model, draws = classifier(network()), Draws(0, "x", [str(i) for i in range(TEST)])
    given = {"train": data, "samples": 100, "neighbours": NEAREST}
    fitted = fit_scores(ReadClassifier(model, reading), load_batch, draws, **given)  # type: ignore[arg-type]
    scores = ood_scores(model, pixels(), torch.zeros(TEST, dtype=torch.int64), draws, fitted, **given)  # type: ignore[arg-type]
    return {name.removeprefix("value_ood_"): values.double().numpy() for name, values in scores.items()}


def test_training_images_of_no_class_are_refused() -> None:
    train = array_dataset("none", np.zeros((2, 4, 4, 3), np.uint8), np.array([0, NO_CLASS]), ids=["a", "b"], classes=["x", "y"])
    with pytest.raises(BadParameter, match="'none' are of no class"):
        scored(classifier(network()), pixels(), train)


def test_logits_that_are_not_finite_are_refused() -> None:
    broken = nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES)).eval()
    with torch.no_grad():
        broken[1].bias.fill_(torch.inf)
    with pytest.raises(ModelError, match="not finite"):
        scored(classifier(broken), pixels())


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet18"])
def test_features_are_what_timm_calls_pre_logits(arch: str) -> None:
    model = load_model(f"{arch}?weights=random", tile=2)
    images = torch.rand(3, 3, *model.size)
    found = penultimate(model, images)
    with torch.no_grad():
        module = model.model
        normal = (images - model.mean) / model.std  # type: ignore[operator]
        expected = module.forward_head(module.forward_features(normal), pre_logits=True)  # type: ignore[operator]
        assert torch.equal(found.logits, model(images))
    assert found.features is not None
    assert found.features.numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_model_of_two_heads_has_no_features_and_scores_of_logits_alone() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.other = network(), nn.Linear(48, CLASSES)

        def forward(self, images: Tensor) -> Tensor:
            return (self.inner(images) + self.other(images.flatten(1))) / 2  # type: ignore[no-any-return]

    scores = scored(classifier(Two()), pixels())
    nothing = {name for name, values in scores.items() if np.isnan(values).all()}
    assert nothing == {"mahalanobis", "relative_mahalanobis", "knn", "residual", "vim", "react", "nnguide"}
    assert all(np.isfinite(values).all() for name, values in scores.items() if name not in nothing)


SUITE = """
name: ood-digits
title: Digits beside what is none
data: {ood: {data: digits}}
limit: 300
scenarios: [SCENARIO]
metrics:
  - ood_score_auroc:
      score: [msp, max_logit, energy, entropy, gen, kl_matching, mahalanobis, relative_mahalanobis, knn, residual, vim, react, nnguide]
      sets: [near, far]
  - ood_score_aupr: {score: vim, sets: inverted}
  - ood_score_fpr95: {score: vim, sets: [far, gone]}
"""


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inverted halves of digits, near, and noise and stripes, far."""
    root, rng, digits = tmp_path_factory.mktemp("data"), np.random.default_rng(0), load_data("digits")
    for i in range(60):
        joined = np.concatenate([digits[i].image[:16], 255 - digits[i + 60].image[:16]])
        stripes = np.broadcast_to(127 + 127 * np.sin(np.arange(32) * rng.uniform(0.3, 2))[None, :, None], (32, 32, 3))
        for name, image in (("near/inverted", joined), ("far/noise", rng.integers(0, 256, (32, 32, 3))), ("far/stripes", stripes)):
            (root / "ood" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.astype(np.uint8)).save(root / "ood" / name / f"{i:02}.png")
    return root


def run(tmp_path: Path, sets: Path, monkeypatch: pytest.MonkeyPatch, scenario: str, **more: object) -> Path:
    (tmp_path / "mine.yaml").write_text(SUITE.replace("SCENARIO", scenario))
    monkeypatch.setenv("ROBUSTVIT_DATA", str(sets))
    runner.run(read_suite(tmp_path / "mine.yaml"), ["demo"], store=tmp_path / "s", **more)  # type: ignore[arg-type]
    return tmp_path / "s"


def test_a_board_has_each_score_on_near_and_far_sets(tmp_path: Path, sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = run(tmp_path, sets, monkeypatch, "ood_scores: {train: {digits: {split: train}}, samples: 500}")
    board = leaderboard(store).set_index("metric")
    areas = board[board.index.str.startswith("ood_score_auroc")]
    assert len(areas) == 2 * len(REFERENCES)
    assert (areas["status"] == "complete").all()
    assert ((areas["low"] < areas["value"]) & (areas["value"] < areas["high"]) & (areas["value"] > 60)).all()
    gone = board.loc["ood_score_fpr95(score=vim, sets=gone)"]
    assert (gone["status"], gone["reason"]) == (
        "undefined", "no image is of the set 'gone'; the data has far/noise, far/stripes, near/inverted",
    )  # fmt: skip
    rows = next(rows for question, rows in Store(store).records() if question.kind == "analysis")
    vim = rows[rows["fact_ood"].isin(["", "near/inverted"])]
    assert board.loc["ood_score_aupr(score=vim, sets=inverted)", "n"] == len(vim) < len(rows) == 300


def test_predictions_on_images_of_no_class_are_refused(tmp_path: Path, sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = run(tmp_path, sets, monkeypatch, "clean")
    board = leaderboard(store, metrics=["top1"])
    assert board["status"].tolist() == ["failed"]
    assert "'clean' compares predictions with labels, and" in board["reason"].iloc[0]
