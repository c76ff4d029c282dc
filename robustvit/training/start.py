"""The model that training starts from, what its checkpoints say of it, and the Classifier around the trained module."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from robustvit.errors import BadParameter, ModelError, with_article
from robustvit.evaluation import loading
from robustvit.evaluation.pipelines.transformed import transformed
from robustvit.primitives.batch import Data
from robustvit.primitives.checkpoint import About, checkpoint_bytes
from robustvit.primitives.class_lookup import named_classes
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import constructor_arguments
from robustvit.primitives.lesions.shown_channels import require_channels
from robustvit.primitives.model_card import fingerprint
from robustvit.training.saving import about_of, check_rebuilt

_RANDOM = "random"  # weights, as a card says


def starting_model(
    model: str | None, start: str | None, data: Data, device: torch.device | str, new_head: bool = False
) -> Classifier:  # fmt: skip
    """The model at an address, for the classes of the data. model: of one with random weights; start: of any other, in place of it, whose
    address and fingerprint the card then has as its `backbone`. new_head: it gets a new head for these classes. Raises BadParameter unless
    one of them is given, and where it is of the other kind; ModelError where the outputs are not the classes.
    """
    if (model is None) == (start is None):
        raise BadParameter("training takes either a model with random weights (--model) or one to start from (--from).")
    address = model if start is None else start
    assert address is not None
    loaded = loading.load_model(address, device=device)
    weights = loaded.card.weights
    if start is None and weights != _RANDOM:
        raise BadParameter(f"model '{address}' has {weights} weights; to train it further, give it as --from, and without --model.")
    if start is not None and weights == _RANDOM:
        raise BadParameter(f"'{address}' has random weights, from which nothing goes on; give it as --model, and without --from.")
    if type(loaded) is not Classifier:
        what = with_article(type(loaded).__name__.removeprefix("_"))
        raise BadParameter(f"model '{address}' is {what}, which computes more than its module, and training trains that alone.")
    require_channels(loaded, data)
    backbone = () if start is None else (address, loaded.card.fingerprint)
    loaded = _headed(loaded, address, data, new_head)
    loaded.card = replace(loaded.card, classes=_classes(loaded, data), backbone=backbone)
    return loaded


def _headed(loaded: Classifier, address: str, data: Data, new_head: bool) -> Classifier:
    """The model with a head for the data's classes. Raises BadParameter or ModelError where it has none and none is asked for."""
    if new_head:
        if data.readings[0].columns is not None or data.readings[0].groups is not None:
            raise BadParameter(f"data '{data.name}' is read from logits of other classes than its own; a new head has those of the data.")
        loaded = transformed(loaded, f"new_head(classes={len(data.classes)})").relabel(loaded.card.label)
        loaded.origin = None
    elif loaded.card.headless:
        raise ModelError(f"model '{address}' gives features and has no head to train; add --new-head for one of data '{data.name}'.")
    try:
        data.readings[0].check(_outputs(loaded), address, data.name)
    except ModelError as error:
        raise ModelError(f"{error} --from {address} --new-head trains a new head for the data's classes.") from error
    return loaded


def about_trained(start: Classifier, command: str) -> About:
    """The header of the checkpoints of a model that is trained. Raises BadParameter where they could not be loaded again."""
    label = start.card.label
    try:
        about = about_of(start, command)
        if about.surgery:
            check_rebuilt(start, checkpoint_bytes(start.model, about, "float32", start.learned), "float32")
        return about
    except ModelError as error:
        raise BadParameter(f"model '{label}' could not be loaded again from its checkpoint: {error}") from error


def trained_model(module: nn.Module, start: Classifier) -> Classifier:
    """The trained module as a Classifier with the normalisation and view of the model it was trained from."""
    card = replace(start.card, weights="given", fingerprint=fingerprint(module))
    made = Classifier(**constructor_arguments(start) | {"model": module, "card": card})
    made.gradient, made.learned = start.gradient, start.learned
    return made


def _classes(start: Classifier, data: Data) -> tuple[str, ...]:
    """The names of the trained model's classes: the data's, whose order it learns, unless that is read from some of its own logits."""
    if data.readings[0].columns is not None or data.readings[0].groups is not None:
        return start.card.classes
    return named_classes(data.classes)


def _outputs(start: Classifier) -> int:
    try:
        return _probed(start)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"model '{start.card.label}' does not compute on images of {start.size[0]}x{start.size[1]} pixels, of which its preprocessing "
            f"makes them: {reason}. Give its address the size that it was made for, such as ?img_size=32."
        ) from error


def _probed(start: Classifier) -> int:
    with torch.no_grad():
        return int(start(torch.zeros(1, start.channels, *start.size, device=start.device)).shape[1])
