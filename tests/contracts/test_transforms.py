"""Laws of every registered transform on every kind of model, at its defaults or at the settings listed here."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import vits
from torch import Tensor

from robustvit.errors import HostRefused, ModelError
from robustvit.evaluation.loading import load_model
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.model_card import fingerprint
from robustvit.primitives.scenario import parameters
from robustvit.primitives.surgery.hosts import HOSTS, why_not_host
from robustvit.primitives.surgery.pipelines import apply_transform
from robustvit.spec.binding import bind
from robustvit.spec.registry import entries, lookup
from robustvit.spec.spec import Spec, parse
from robustvit.spec.written.call import called
from robustvit.training.saving import save_checkpoint

SETTINGS: dict[str, dict[str, Any]] = {
    "attention_temperature": {"temperature": 2},
    "block_pruning": {"block": 8},
    "convolutional_start": {"kernel": 1},
    "elastic_patches": {"missing": 0.5},
    "head_pruning": {"amount": 0.5},
    "image_size": {"scale": 2, "enlarged": True},
    "learned_mixed_scale": {"steps": 2, "hidden": 8},
    "learned_sparse_attention": {"steps": 3},
    "ltmp": {"target": 0.5, "steps": 4},
    "new_head": {"classes": 5},
    "semantic_tokens": {"count": 4, "at": 1},
    "stvit": {"count": 4, "at": 1, "steps": 3},
}  # where the defaults do not do on hosts of 17 tokens
UNTRAINED = frozenset(
    {"adapter", "feature_denoiser", "overlapping_patches", "side"}
)  # what they add is zero, and changes nothing until it is trained
UNREAD = frozenset({"position_mean"})  # what they change logits are not read from: neither class tokens nor the mean of patch tokens
KERNELS: frozenset[str] = frozenset()  # whose kernels take float32 alone
OURS = [name for name, entry in entries("transform").items() if entry.module.startswith("robustvit.")]
CASES = [(name, make) for name in OURS for make in vits.HOSTS]
law = pytest.mark.parametrize(("name", "make"), CASES, ids=["-".join(case) for case in CASES])


def setting(name: str) -> Spec:
    """Where the transform changes something."""
    return bind(lookup("transform", name), parse({name: _calibrated(name) | SETTINGS.get(name, {})})[0])


def no_op(name: str) -> Spec:
    """The setting with which it says it changes nothing."""
    given = _calibrated(name) | SETTINGS.get(name, {})
    arguments = {key: value for key, value in given.items() if f"{key}=" not in lookup("transform", name).no_op}
    return bind(lookup("transform", name), called(f"{name}({lookup('transform', name).no_op})", "transform").with_params(**arguments))


def _calibrated(name: str) -> dict[str, str]:
    given = {"data": "digits", "model": "toy"}
    return {param.name: given[param.hint.plugin] for param in lookup("transform", name).params if param.hint.plugin in given}


def _nested(name: str) -> dict[str, Any]:
    """Noise for the data set that a transform learns of, another model for one that it takes."""
    kinds = {param.name: param.hint.plugin for param in lookup("transform", name).params}
    return {key: Noise() if kinds[key] == "data" else vits.made(vits.HOSTS["plain"], 3.0) for key in _calibrated(name)}


class Noise:
    """Sixteen images of noise with labels, which transforms learn of."""

    name, classes, ids = "noise", tuple("abcde"), tuple(map(str, range(16)))
    labels = np.arange(16) % 5

    def __len__(self) -> int:
        return 16


def load_noise(data: Noise, positions: np.ndarray) -> Batch:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(16, 3, vits.SIDE, vits.SIDE, generator=generator)
    return Batch(images[positions], torch.from_numpy(data.labels[positions]), tuple(data.ids[i] for i in positions))


def apply(host: Classifier, spec: Spec) -> Classifier:
    """The transform on the host, with what it learns of noise."""
    entry = lookup("transform", spec.name)
    plugins = _nested(spec.name)
    artifact = None
    if entry.fit:
        arguments = parameters(spec, plugins)
        artifact = entry.load_beside(entry.fit)(host, load_noise, Draws(0, "transform/learn", ["learn"], host.device), **arguments)
    return apply_transform(host, spec, plugins, artifact)


def hosted(name: str, make: str, sharp: float = 6.0) -> Classifier:
    """The host, where the transform takes it; elsewhere its refusal is held to name both, and the law does not concern it."""
    host = vits.made(vits.HOSTS[make], sharp)
    if why := why_not_host(lookup("transform", name).hosts, host):
        with pytest.raises(HostRefused) as refusal:
            apply_transform(host, setting(name))
        assert all(part in str(refusal.value) for part in (f"'{name}'", "'toy'", why))
        pytest.skip(f"declared: {refusal.value}")
    return host


def slope(model: Classifier, pixels: Tensor) -> Tensor:
    leaf = pixels.clone().requires_grad_()
    return torch.autograd.grad(model(leaf).logsumexp(dim=1).sum(), leaf)[0]


def test_every_transform_names_its_source_its_hosts_and_what_changes_nothing() -> None:
    assert set(SETTINGS) | KERNELS <= set(OURS)
    for entry in map(entries("transform").get, OURS):
        assert all((entry.source, entry.doc, entry.no_op)), entry.name
        assert entry.hosts in HOSTS, entry.name


def test_an_unknown_kind_of_host_is_refused() -> None:
    with pytest.raises(Exception, match=r"hosts is 'plian'\. Did you mean 'plain'"):
        why_not_host("plian", vits.made(vits.HOSTS["plain"]))


@pytest.mark.parametrize(("kind", "taken"), [
    ("any", set(vits.HOSTS)), ("grids", set(vits.HOSTS) - {"cnn", "eva"}),
    ("attention", set(vits.HOSTS) - {"cnn"}), ("windows", set(vits.HOSTS) - {"cnn"}),
    ("plain", set(vits.HOSTS) - {"cnn", "swin", "eva"}), ("patches", set(vits.HOSTS) - {"cnn", "swin", "eva"}),
    ("plain-patches", set(vits.HOSTS) - {"cnn", "swin", "eva"}), ("blocks", set(vits.HOSTS) - {"cnn", "swin", "eva"}),
    ("sequence", set(vits.HOSTS) - {"cnn", "swin"}), ("positions", set(vits.HOSTS) - {"cnn", "swin", "eva"}),
    ("hilo", set()),
])  # fmt: skip
def test_kinds_of_hosts(kind, taken) -> None:
    assert {make for make in vits.HOSTS if not why_not_host(kind, vits.made(vits.HOSTS[make]))} == taken


@law
def test_a_no_op_setting_gives_the_hosts_logits(name, make) -> None:
    host, pixels = hosted(name, make), vits.images(6)
    assert torch.allclose(apply(host, no_op(name))(pixels), host(pixels), atol=1e-5)


@law
def test_it_changes_the_logits_and_not_its_host(name, make) -> None:
    host, pixels = hosted(name, make), vits.images(6)
    before, weights = host(pixels), {key: value.clone() for key, value in host.state_dict().items()}
    made = apply(host, setting(name))
    assert (float((made(pixels) - before).abs().max()) > 1e-3) is (name not in UNTRAINED | UNREAD)
    assert torch.equal(host(pixels), before)
    assert host.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in host.state_dict().items())
    classes = made.card.classes if lookup("transform", name).head else host.card.classes
    assert made.card == dataclasses.replace(host.card, transforms=(setting(name),), classes=classes)


@law
def test_rows_and_their_gradients_do_not_depend_on_companions(name, make) -> None:
    model, pixels = apply(hosted(name, make), setting(name)), vits.images(7)
    logits = model(pixels)
    gradients = None if model.gradient == "absent" else slope(model, pixels)
    for start, stop in ((0, 1), (4, 7)):
        assert torch.equal(model(pixels[start:stop]), logits[start:stop])
        assert gradients is None or torch.equal(slope(model, pixels[start:stop]), gradients[start:stop])


@law
def test_gradients_are_what_the_policy_says(name, make) -> None:
    model, pixels = apply(hosted(name, make, sharp=2.0), setting(name)), 0.3 + 0.4 * vits.images(2)
    if model.gradient == "absent":
        leaf = pixels.clone().requires_grad_()
        logits = model(leaf)
        found = torch.autograd.grad(logits.sum(), leaf, allow_unused=True)[0] if logits.requires_grad else None
        assert found is None or not bool(found.any())
        return
    gradient = slope(model, pixels)
    assert bool(torch.isfinite(gradient).all())
    assert bool(gradient.flatten(1).any(dim=1).all())
    if model.gradient != "exact":
        return
    norm = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    for length in (0.05, 0.01, 0.002):  # a hard choice between tokens may change along the longer ways
        way = length * gradient / norm
        ends = [model(pixels + sign * way).logsumexp(dim=1) for sign in (1, -1)]
        if torch.allclose(ends[0] - ends[1], 2 * (gradient * way).sum(dim=(1, 2, 3)), rtol=0.05):
            return
    pytest.fail("its gradients are not those of its own logits")


@law
def test_small_tiles_change_no_bit(name, make) -> None:
    model, pixels = apply(hosted(name, make), setting(name)).configure(tile=16), vits.images(3)
    whole = model(pixels)
    with model.with_small_tiles():
        assert all(torch.equal(model(pixels), whole) for _ in range(5))


@pytest.mark.parametrize(("name", "make"), [case for case in CASES if case[1] in ("plain", "registers", "distilled", "swin")])
def test_the_checkpoint_round_trip_is_exact(name, make, tmp_path) -> None:
    host, pixels = hosted(name, make), vits.images(5)
    arch, kwargs = vits.ARCHITECTURES[make]
    host.card = dataclasses.replace(host.card, identity=Spec("timm").with_params(arch=arch, kwargs=kwargs, num_classes=5))
    model = apply(host, setting(name))
    if type(model) is not Classifier and not hasattr(model, "with_module"):  # a class of one's own that no file could rebuild
        with pytest.raises(ModelError, match=type(model).__name__):
            save_checkpoint(model, tmp_path / "a.safetensors")
        return
    save_checkpoint(model, tmp_path / "a.safetensors")
    loaded = load_model(f"file:{tmp_path / 'a.safetensors'}", tile=model.tile)
    assert torch.equal(loaded(pixels), model(pixels))
    assert (loaded.gradient, loaded.card.fingerprint) == (model.gradient, fingerprint(model.model))
    assert loaded.card.identity.get("surgery") == (setting(name),)


@law
def test_it_can_follow_itself(name, make) -> None:
    once = apply(hosted(name, make), setting(name))
    pixels = vits.images(2)
    assert torch.allclose(apply(once, no_op(name))(pixels), once(pixels), atol=1e-5)


@law
def test_float64_and_bfloat16(name, make) -> None:
    if name in KERNELS:
        pytest.skip("its kernels take float32")
    host, pixels = hosted(name, make, sharp=1.0), vits.images(2)
    single = apply(host, setting(name))(pixels)
    double = apply(hosted(name, make, sharp=1.0).double(), setting(name))(pixels)
    assert double.dtype == torch.float64
    assert torch.allclose(double.float(), single, atol=1e-3)
    half = apply(host, setting(name)).configure(precision="bfloat16")(pixels)
    assert half.dtype == torch.float32
    assert bool(torch.isfinite(half).all())
