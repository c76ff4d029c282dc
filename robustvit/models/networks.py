"""The network that a checkpoint names: an architecture of timm or a registered one, with random weights, and what happens to its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from robustvit.errors import ModelError
from robustvit.models.hf import hf_model
from robustvit.models.timm import check_architecture, identity, preprocessing_of, random
from robustvit.primitives.architectures.preprocessing import Preprocessing
from robustvit.primitives.architectures.registered import architecture_identity, network, preprocessing_of_architecture
from robustvit.primitives.checkpoint import About
from robustvit.primitives.classifier_views import channels
from robustvit.spec.binding import bind
from robustvit.spec.model_address import parse_model, unknown_architecture
from robustvit.spec.plugin import ARCHITECTURE
from robustvit.spec.registry import entries, lookup
from robustvit.spec.spec import Spec
from robustvit.spec.written.arguments import parse_kwargs


class Network(NamedTuple):
    """module: without the checkpoint's weights. identity: its own, as that of the model in a Cell."""

    module: nn.Module
    inputs: Preprocessing
    identity: Spec


def network_of(
    about: About, mean: Sequence[float] | None, std: Sequence[float] | None, crop_pct: float | None, interpolation: str | None
) -> Network:  # fmt: skip
    """What a header and an address name. Raises UnknownName, BadParameter, or ModelError for another version of an architecture."""
    mean, std = mean or about.mean, std or about.std
    if about.origin:
        return _of_repository(about, mean, std, crop_pct, interpolation)
    if not about.arch.startswith(ARCHITECTURE):
        check_architecture(about.arch)
        built = random(about.arch, about.num_classes, about.kwargs)  # transforms then leave the same shapes in every process
        inputs = _own_view(about, preprocessing_of(built, about.kwargs, mean, std, crop_pct, interpolation), crop_pct, interpolation)
        return Network(built, inputs, identity(about.arch.partition(".")[0], built, about.kwargs, inputs))
    numbers = {key: None if value is None else tuple(value) for key, value in (("mean", mean), ("std", std))}
    spec = _bound(about, **numbers, crop_pct=crop_pct, interpolation=interpolation)
    inputs = _own_view(about, preprocessing_of_architecture(spec), crop_pct, interpolation)
    return Network(network(spec), inputs, architecture_identity(spec, inputs))


def _of_repository(
    about: About, mean: Sequence[float] | None, std: Sequence[float] | None, crop_pct: float | None, interpolation: str | None
) -> Network:  # fmt: skip
    """The network of a repository, with the repository's weights. Raises ModelError where the origin is code, which no file runs."""
    spec = parse_model(about.origin)
    if spec.name != "hf":
        sign = "&" if "?" in about.origin else "?"
        raise ModelError(
            f"it holds weights for '{about.origin}', which is code that a file does not run; load {about.origin}{sign}weights=FILE"
        )
    given = {key: None if value is None else tuple(value) for key, value in (("mean", mean), ("std", std))}
    host = hf_model(name=str(spec.get("name")), revision=spec.get("revision"), crop_pct=crop_pct, interpolation=interpolation, **given)  # type: ignore[arg-type]
    inputs = _own_view(about, Preprocessing(channels(host.mean), channels(host.std), host.view), crop_pct, interpolation)
    return Network(host.model, inputs, host.card.identity)


def _bound(about: About, **images: Any) -> Spec:
    """The Spec of a registered architecture. Raises ModelError where the header is of another version of it."""
    if about.arch not in entries("model"):
        raise unknown_architecture(about.arch)
    entry = lookup("model", about.arch)
    if about.version not in (None, entry.version):
        raise ModelError(f"it is of version {about.version} of '{about.arch}', and here is version {entry.version}")
    given = {"num_classes": about.num_classes, **images}
    arguments = parse_kwargs(about.kwargs) | {key: value for key, value in given.items() if value is not None}
    return bind(entry, Spec(about.arch, tuple(sorted(arguments.items()))))


def _own_view(about: About, inputs: Preprocessing, crop_pct: float | None, interpolation: str | None) -> Preprocessing:
    own = None if about.resized else about.own_view()
    return inputs if own is None else inputs._replace(view=own.with_overrides(None, crop_pct, interpolation))
