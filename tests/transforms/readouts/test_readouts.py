"""Readouts against brute force and least squares, on headless models and models of other classes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import vits
from torch import Tensor

import robustvit as rv
from robustvit.data.formats.arrays import ArrayDataset, array_dataset
from robustvit.errors import BadParameter, HostRefused
from robustvit.evaluation.loading import load_data, load_model
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.surgery.heads import feature_model
from robustvit.primitives.surgery.readouts import chosen_samples
from robustvit.transforms.readouts.nearest_neighbours import NearestNeighbours, fit_bank, knn
from robustvit.transforms.readouts.ridge import GRID, fit_ridge, linear, ridge_regression

N, CLASSES = 24, 3
DRAWS = Draws(0, "readout", ["learn"])


def samples() -> ArrayDataset:
    images = np.random.default_rng(1).integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(N) % CLASSES
    return array_dataset("noise", images, labels, ids=[f"noise/{i}" for i in range(N)], classes=["a cat", "a dog", "a fox"])


def load(data: ArrayDataset, positions: np.ndarray) -> Batch:
    images = torch.from_numpy(np.stack([data[int(i)].image for i in positions])).permute(0, 3, 1, 2) / 255
    return Batch(images, torch.from_numpy(data.labels[positions]), tuple(data.ids[i] for i in positions))


def headless(make: str = "plain") -> Classifier:
    host = vits.made(vits.HOSTS[make], 2.0)
    host.model.reset_classifier(0)
    host.card = replace(host.card, headless=True)
    return host


def features(module, images: Tensor) -> Tensor:
    """The class token after the last norm, by the steps of the model."""
    x = (images - torch.tensor((0.5, 0.4, 0.3)).view(1, 3, 1, 1)) / torch.tensor((0.5, 0.25, 0.2)).view(1, 3, 1, 1)
    return module.forward_features(x)[:, 0]


def with_knn(model: Classifier, **options) -> Classifier:
    given = {"data": samples(), "k": 5, "temperature": 0.1, "shots": None, "pool": "own"} | options
    return knn(model, fit_bank(model, load, DRAWS, **given), **given)


def with_linear(model: Classifier, **options) -> Classifier:
    given = {"data": samples(), "shots": None, "ridge": None, "pool": "own"} | options
    return linear(model, fit_ridge(model, load, DRAWS, **given), **given)


def test_knn_votes_as_brute_force_does() -> None:
    """By a loop over the samples: cosines sorted, exp(cosine / T) added up for each class, one vote of exp(−1/T) more for every class."""
    host, data, images = headless(), samples(), vits.images(4)
    bank = features(host.model, load(data, np.arange(N)).images).double().numpy()
    found = with_knn(host)(images)
    for row, one in enumerate(features(host.model, images).double().numpy()):
        cosines = [float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other))) for other in bank]
        votes = [math.exp(-1 / 0.1)] * CLASSES
        for place in sorted(range(N), key=lambda i: -cosines[i])[:5]:
            votes[int(data.labels[place])] += math.exp(cosines[place] / 0.1)
        assert np.allclose(found[row].numpy(), np.log(votes), atol=1e-4)


def test_knn_of_all_samples_and_of_more_is_the_same() -> None:
    images = vits.images(2)
    assert torch.equal(with_knn(headless(), k=N)(images), with_knn(headless(), k=N + 9)(images))


def test_knn_has_finite_logits_and_the_gradients_of_its_votes() -> None:
    layer = NearestNeighbours(torch.eye(4)[:3], torch.tensor([0, 1, 1]), 3, k=1, temperature=0.01)
    given = torch.tensor([[1.0, 0.2, 0.1, 0.3]], requires_grad=True)
    logits = layer(given)
    assert torch.isfinite(logits).all()
    assert logits.argmax() == 0
    assert float(logits[0, 2].detach()) == pytest.approx(-100)
    gradient = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, torch.tensor([0])), given, retain_graph=True)[0]
    assert torch.isfinite(gradient).all()
    exact = torch.autograd.grad(logits[0, 0], given)[0]
    unit = given.detach() / given.detach().norm()
    by_hand = (torch.eye(4)[0] - unit * unit[0, 0]) / given.detach().norm() / 0.01
    assert torch.allclose(exact, by_hand, rtol=1e-4)


@pytest.mark.parametrize("ridge", [0.0, 0.5, 30.0])
def test_linear_is_the_least_squares_solution_of_the_penalised_system(ridge: float) -> None:
    """numpy's lstsq of features with a column of ones, over rows √λ·I that leave the bias free."""
    host, data, images = headless(), samples(), vits.images(4)
    x, y = features(host.model, load(data, np.arange(N)).images).double().numpy(), np.eye(CLASSES)[data.labels]
    if ridge == 0:  # 24 samples in 24 dimensions: centred, they leave one direction free, along which W is nothing
        centred = np.linalg.pinv(x - x.mean(0), rcond=1e-9) @ (y - y.mean(0))
        expected = (features(host.model, images).double().numpy() - x.mean(0)) @ centred + y.mean(0)
    else:
        system = np.block([[x, np.ones((N, 1))], [math.sqrt(ridge) * np.eye(24), np.zeros((24, 1))]])
        weights = np.linalg.lstsq(system, np.concatenate((y, np.zeros((24, CLASSES)))), rcond=None)[0]
        expected = np.concatenate((features(host.model, images).double().numpy(), np.ones((4, 1))), axis=1) @ weights
    assert np.allclose(with_linear(host, ridge=ridge)(images).numpy(), expected, atol=1e-3)


def test_the_penalty_is_that_of_the_least_error_of_left_out_samples() -> None:
    generator = np.random.default_rng(3)
    x = torch.from_numpy(generator.normal(size=(12, 5)))
    y = torch.eye(3).double()[torch.arange(12) % 3] + 0.2 * torch.from_numpy(generator.normal(size=(12, 3)))
    y[:, 0] += x[:, 0]

    def error(penalty: float) -> float:
        total = 0.0
        for left in range(12):
            rest = [i for i in range(12) if i != left]
            fit = ridge_regression(x[rest], y[rest], penalty)
            total += float((y[left] - x[left].float() @ fit["weight"].T - fit["bias"]).square().sum())
        return total

    best = min(GRID, key=error)
    assert float(ridge_regression(x, y, None)["ridge"]) == best
    assert best not in (GRID[0], GRID[-1]), "a case that decides something"


def test_shots_are_so_many_of_each_class_by_the_seed() -> None:
    data = samples()
    first, again, other = (chosen_samples(data, 2, Draws(seed, "x", ["learn"])) for seed in (0, 0, 1))
    assert sorted(data.labels[first].tolist()) == [0, 0, 1, 1, 2, 2]
    assert len(set(first.tolist())) == 6
    assert first.tolist() == again.tolist() != other.tolist()
    with pytest.raises(BadParameter, match="shots is 9, and data 'noise' has 8 samples of class 'a cat'"):
        chosen_samples(data, 9, DRAWS)


@pytest.mark.parametrize("make", ["plain", "registers", "swin", "cnn", "distilled", "eva"])
def test_features_are_what_the_head_was_given(make: str) -> None:
    host, images = vits.made(vits.HOSTS[make], 1.0), vits.images(3)
    found = feature_model(host)
    heads = [one for name, one in host.model.named_modules() if name in ("head", "head.fc", "head_dist", "7") and hasattr(one, "weight")]
    expected = sum(found(images) @ one.weight.T + one.bias for one in heads) / len(heads)
    if make != "distilled":
        assert torch.allclose(expected, host(images), atol=1e-5)
    assert found.card.headless
    for learned in (with_knn(host), with_linear(host)):
        assert learned(images).shape == (3, CLASSES)
        assert learned.card.classes == ("a cat", "a dog", "a fox")


def test_a_distilled_model_is_read_from_the_mean_of_its_two_tokens() -> None:
    host, images = vits.made(vits.HOSTS["distilled"], 1.0), vits.images(3)
    x = (images - host.mean) / host.std
    assert torch.allclose(feature_model(host)(images), host.model.forward_head(host.model.forward_features(x), pre_logits=True), atol=1e-6)


def test_pools_are_the_class_token_and_the_mean_of_patch_tokens() -> None:
    host, images = headless(), vits.images(3)
    tokens = host.model.forward_features((images - host.mean) / host.std)
    assert torch.allclose(feature_model(host, "mean")(images), tokens[:, 1:].mean(dim=1), atol=1e-6)
    assert torch.allclose(feature_model(host, "class")(images), tokens[:, 0], atol=1e-6)
    assert host.model.global_pool == "token", "the host stays"
    with pytest.raises(HostRefused, match="no class token"):
        feature_model(vits.made(vits.HOSTS["average-pooled"]), "class")
    with pytest.raises(HostRefused, match="plain vision transformers alone"):
        feature_model(vits.made(vits.HOSTS["swin"]), "class")


def test_a_readout_is_saved_with_its_bank_once_and_loaded_alone(tmp_path: Path) -> None:
    kwargs = "img_size=32,patch_size=16,embed_dim=8,depth=1,num_heads=1"
    host = load_model(f"vit_tiny_patch16_224?weights=random&num_classes=0&crop_pct=1&kwargs={kwargs}")
    for text in ("knn(data=digits?split=train,k=3)", "linear(data=digits?split=train,shots=2)"):
        made = rv.transformed(host, text)
        rv.save_checkpoint(made, tmp_path / "a.safetensors")
        loaded = load_model(f"file:{tmp_path / 'a.safetensors'}")
        images = torch.stack([loaded.preprocess(load_data("digits")[i].image) for i in range(4)])
        assert torch.equal(loaded(images), made(images))
        assert not loaded.card.headless
        assert loaded.outputs == 10
        assert made.learned[-1].keys() == loaded.learned[-1].keys()
    bank = rv.transformed(host, "knn(data=digits?split=train,k=3)")
    assert not [name for name in bank.model.state_dict() if "bank" in name]


def test_transforms_follow_a_readout() -> None:
    made = with_knn(headless())
    images = vits.images(2)
    assert torch.equal(rv.transformed(made, "tome", r=0)(images), made(images))
    assert rv.transformed(made, "tome", r=2)(images).shape == (2, CLASSES)
