"""Models from a function of the user's own: `package.module:factory`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import nn

from robustvit.errors import BadParameter, ModelError, RobustvitError, nearest, with_article
from robustvit.models.checkpoint import existing, read_about
from robustvit.models.rebuilding import rebuild
from robustvit.models.source_code import SourceCode, source_code
from robustvit.models.tensors import Wish, read_tensors
from robustvit.models.timm import parameters
from robustvit.primitives.architectures.preprocessing import Interpolation, Preprocessing, Share, per_channel
from robustvit.primitives.checkpoint import with_surgery
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.modules.class_names import classes_of_module
from robustvit.primitives.modules.given_module import timm_config
from robustvit.primitives.shared_weights import arithmetic_of
from robustvit.spec.model_address import write_model
from robustvit.spec.registry import importable_here, model
from robustvit.spec.spec import Spec
from robustvit.spec.view import View


@model(name="factory", source="a function of your own")
def factory_model(
    *,
    target: str,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    img_size: Annotated[int, Ge(1)] | None = None,
    crop_pct: Share | None = None,
    interpolation: Interpolation | None = None,
    weights: str | None = None,
) -> Classifier:
    """The model that a function of yours returns: `my_models.vit:robust_small?mean=0.5&std=0.5&img_size=224`.

    The function is called without arguments and returns a Classifier, which is taken as it is, or an nn.Module from normalised images to
    logits, whose `pretrained_cfg` or `default_cfg` (timm's keys), or else mean, std and img_size here, give its preprocessing, and whose
    attribute `classes`, or `config.id2label`, names its logits. crop_pct: default the configuration's, or 1. interpolation: the
    configuration's, or bicubic. weights: a file with all of its weights, which `robustvit train --from` or `rv.save_checkpoint` wrote.
    The module is imported with the current folder on the path during the import and the call, as `python -m`
    does. This is the only address that runs code; the code of that module, and of what it imports from its package or folder, is part of
    the identity.
    """
    built, code = _called(target)
    notes = _notes(code)
    given: dict[str, Any] = {"mean": mean, "std": std, "img_size": img_size, "crop_pct": crop_pct, "interpolation": interpolation}
    if isinstance(built, Classifier):
        _refuse(target, given)
        identity = built.card.identity.with_params(code=code.digest)
        built.card = replace(built.card, identity=identity, origin=target, notes={**built.card.notes, **notes})
        return _with_weights(built, weights).identify()  # the function may have changed what it loaded
    _refuse_weights(built, target)
    inputs = _preprocessing(built, target, mean, std, img_size, crop_pct, interpolation)
    address = Spec("factory").with_params(
        target=target, mean=mean, std=std, img_size=img_size, crop_pct=crop_pct, interpolation=interpolation
    )
    named = Spec("factory", kind="model", version=1).with_params(target=target, mean=inputs.mean, std=inputs.std, code=code.digest)
    card = Card(
        label=write_model(address.with_params(weights=weights)), origin=write_model(address), identity=named,
        fingerprint=fingerprint(built), weights="given", source=target, parameters=parameters(built),
        classes=classes_of_module(built), notes=notes,
    )  # fmt: skip
    return _with_weights(inputs.classifier(built, card), weights)


def _with_weights(made: Classifier, path: str | None) -> Classifier:
    """The model with the weights of a file, after the transforms that its header names; unchanged without a file."""
    if path is None:
        return made
    file = existing(Path(path).expanduser())
    about = read_about(file)
    rebuilt = rebuild(made, about, read_tensors(file, Wish(None, "", None)).tensors, file)
    identity = with_surgery(made.card.identity, about.surgery, rebuilt.learned)
    rebuilt.card = replace(
        made.card, identity=identity, classes=about.classes or made.card.classes, backbone=about.backbone, headless=rebuilt.card.headless
    )
    return rebuilt.identify()


def _called(target: str) -> tuple[nn.Module, SourceCode]:
    with importable_here():
        function = _imported(target)
        try:
            built = function()
        except RobustvitError:
            raise
        except (Exception, SystemExit) as error:
            raise ModelError(f"the factory '{target}' raised {type(error).__name__}: {error}") from error
    if not isinstance(built, nn.Module):
        raise ModelError(
            f"the factory '{target}' must return an nn.Module or a Classifier; it returned {with_article(type(built).__name__)}."
        )
    return built, source_code(target.partition(":")[0])


def _refuse_weights(built: nn.Module, target: str) -> None:
    """Raises ModelError for weights that are no finite numbers, or of a type that no network computes with."""
    arithmetic_of(built, target)
    wrong = [name for name, one in built.named_parameters() if one.is_floating_point() and not bool(torch.isfinite(one).all())]
    if wrong:
        raise ModelError(f"the factory '{target}': {len(wrong)} weights hold values that are not finite (first {wrong[0]}).")


def _notes(code: SourceCode) -> dict[str, str]:
    unread = ", ".join(code.unread)
    return {"code": f"the source of {unread} cannot be read, so that an edit of it goes unnoticed"} if unread else {}


def _imported(target: str) -> Callable[[], Any]:
    name, _, function = target.partition(":")
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names and not (Path(f"{top}.py").is_file() or Path(top).is_dir()):
        raise ModelError(f"the factory '{target}': '{top}' is a module of Python itself, which makes no models. Name one of yours.")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"the factory '{target}' cannot be imported: there is no module '{error.name}' on the path or in this folder."
        ) from error
    except (Exception, SystemExit) as error:
        raise ModelError(f"the factory '{target}' cannot be imported: its module raised {type(error).__name__}: {error}") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise ModelError(f"the factory '{target}': module '{name}' has no function '{function}'.{nearest(function, vars(module))}")
    return found  # type: ignore[no-any-return]


def _refuse(target: str, given: dict[str, Any]) -> None:
    extra = [key for key, value in given.items() if value is not None]
    if extra:
        raise BadParameter(f"the factory '{target}' returned a Classifier, which has its own {', '.join(extra)}; leave ?{extra[0]}=… out.")


def _preprocessing(
    built: nn.Module,
    target: str,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    img_size: int | None,
    crop_pct: float | None,
    interpolation: str | None,
) -> Preprocessing:
    config = timm_config(built)
    size = (img_size, img_size) if img_size else tuple(config.get("input_size", ()))[-2:]
    found = {"mean": mean or config.get("mean"), "std": std or config.get("std"), "img_size": size}
    lacking = [key for key, value in found.items() if not value]
    if lacking:
        raise ModelError(
            f"the factory '{target}' returned {with_article(type(built).__name__)} without a preprocessing (no pretrained_cfg or "
            f"default_cfg with mean, std and input_size). Give {' and '.join(lacking)}: "
            f"{target}?mean=0.485,0.456,0.406&std=0.229,0.224,0.225&img_size=224."
        )
    merged = {"crop_pct": 1.0, "interpolation": "bicubic", **config, "input_size": (3, *size)}
    chosen = {"crop_pct": crop_pct, "interpolation": interpolation}
    merged |= {key: value for key, value in chosen.items() if value is not None}
    count = int(config["input_size"][0]) if "input_size" in config else max(3, len(tuple(found["mean"] or ())))
    return Preprocessing(per_channel(found["mean"], (), count), per_channel(found["std"], (), count), View.of_timm(merged))
