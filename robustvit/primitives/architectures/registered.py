"""Architectures that plug-ins register, built with random weights.

An architecture is a plain function under `@model(name="arch/NAME")` whose keyword parameters have defaults, `num_classes` and `img_size`
among them, and which returns a module from normalised (N, 3, img_size, img_size) to (N, num_classes) logits. It draws its weights from
torch's default generator, which is seeded here. Weights come from training, or from a checkpoint that names the architecture.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.architectures.preprocessing import Preprocessing, per_channel
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.spec.model_address import write_model
from robustvit.spec.plugin import Entry
from robustvit.spec.registry import lookup
from robustvit.spec.spec import Spec, plain
from robustvit.spec.view import View

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_HALF = 0.5  # mean and std of a channel that is none of red, green and blue
_NEEDED = ("num_classes", "img_size")
_SEED = 0  # of random weights; any fixed number will do
_CROP, _SMALL = 0.875, 64  # the share that the crop keeps; images of up to so many pixels are not cropped
_UNBUILDABLE = (TypeError, ValueError, AssertionError, AttributeError, ArithmeticError, LookupError, RuntimeError, MemoryError)


def random_model(spec: Spec) -> Classifier:
    """The architecture of a bound Spec with random weights, which its card says. Raises what `network` does."""
    built, inputs = network(spec), preprocessing_of_architecture(spec)
    entry = lookup("model", spec.name)
    card = Card(
        write_model(spec), architecture_identity(spec, inputs).with_params(weights="random"), fingerprint(built), "random",
        source="random initialisation", url=entry.url, licence=entry.licence, citation=entry.citation,
        parameters=sum(parameter.numel() for parameter in built.parameters()),
    )  # fmt: skip
    return inputs.classifier(built, card)


def network(spec: Spec) -> nn.Module:
    """The network of a bound Spec `arch/NAME(…)`: the same random weights in every process; the caller's random state is left alone.

    Raises BadParameter for arguments of which it makes none, ModelError for a function that is no architecture.
    """
    entry = lookup("model", spec.name)
    _check_function(entry)
    arguments = own_arguments(spec)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)
        try:
            built = entry.load()(**{key: plain(value) for key, value in arguments.params})
        except _UNBUILDABLE as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BadParameter(f"{arguments} cannot be built: {reason}") from error
    if not isinstance(built, nn.Module) or isinstance(built, Classifier):
        raise ModelError(
            f"the architecture '{spec.name}' must return an nn.Module from normalised images to logits; it returned a "
            f"{type(built).__name__}."
        )
    return built.float()


def own_arguments(spec: Spec) -> Spec:
    """The bound Spec of an architecture with what its function takes alone, neither normalisation nor view."""
    own = {param.name for param in lookup("model", spec.name).params}
    return Spec(spec.name, tuple((key, value) for key, value in spec.params if key in own), spec.kind, spec.version)


def preprocessing_of_architecture(spec: Spec) -> Preprocessing:
    """ImageNet's normalisation, and a centre crop of bicubically resized images of `img_size`, where a bound Spec says nothing else.

    Images of another number of `channels` than three are normalised by a mean and a standard deviation of 0.5.
    """
    given: dict[str, Any] = {key: plain(value) for key, value in spec.params}
    side = given["img_size"]
    share = given.get("crop_pct") or (_CROP if side > _SMALL else 1.0)
    view = View((side, side), math.floor(side / share), "center", given.get("interpolation") or "bicubic", share)
    count = int(given.get("channels", 3))
    mean, std = (_MEAN, _STD) if count == 3 else ((_HALF,), (_HALF,))
    return Preprocessing(per_channel(given.get("mean"), mean, count), per_channel(given.get("std"), std, count), view)


def architecture_identity(spec: Spec, inputs: Preprocessing) -> Spec:
    """The identity of a model of an architecture in a Cell, beside its fingerprint."""
    return own_arguments(spec).with_params(mean=inputs.mean, std=inputs.std)


def _check_function(entry: Entry) -> None:
    """Raises ModelError for a function that lacks what every architecture takes, or a default."""
    names = {param.name for param in entry.params}
    missing = [name for name in _NEEDED if name not in names] or [param.name for param in entry.params if param.required]
    if missing:
        lacks = f"{'default for' if missing[0] in names else 'parameter'} '{missing[0]}'"
        raise ModelError(
            f"the architecture '{entry.name}' ({entry.module}:{entry.function}) has no {lacks}; its keyword parameters have defaults, and "
            "num_classes and img_size are among them."
        )
