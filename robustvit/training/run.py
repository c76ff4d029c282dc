"""Trains a model named by its address on a data set named by its address, and writes a checkpoint: `robustvit train`."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from robustvit.errors import BadParameter, ModelError
from robustvit.evaluation import loading
from robustvit.evaluation.data_part import DataPart
from robustvit.evaluation.datasets import refuse_ambiguous_order
from robustvit.primitives.batch import Data
from robustvit.primitives.checkpoint import About, Stored, checkpoint_bytes, rounded
from robustvit.primitives.class_lookup import names_classes
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import channels, constructor_arguments
from robustvit.primitives.model_card import fingerprint
from robustvit.spec import registry
from robustvit.spec.coercion import check_seed
from robustvit.spec.data_address import parse_data
from robustvit.spec.spec import Spec
from robustvit.training.defending import bound_defenses, composed
from robustvit.training.loop import Device, EpochProgress, load_batch, train
from robustvit.training.monitor import Measured, Monitor, Watch, calibration_part
from robustvit.training.output import interrupted, partial_of, remove_unfinished, state_of
from robustvit.training.processes import is_first
from robustvit.training.recipe import RECIPE, Recipe
from robustvit.training.saving import ENDING, about_of, check_rebuilt, write_checkpoint
from robustvit.training.state import read_state, write_state


class TrainResult(NamedTuple):
    """The trained model with its weights as stored, the loss of every epoch, and the accuracy on the held-out split (None without one).

    measured: what a monitor found after epochs. epoch: that whose weights are kept, the last unless the best were asked for.
    """

    model: Classifier
    losses: tuple[float, ...]
    accuracy: float | None
    seconds: float
    measured: tuple[Measured, ...] = ()
    epoch: int = 0


def train_from_spec(
    model: str,
    data: str,
    *,
    out: Path,
    defenses: Sequence[str] = ("plain",),
    recipe: Recipe = RECIPE,
    seed: int = 0,
    device: Device = "cpu",
    stored: Stored = "float16",
    data_dir: Path | None = None,
    progress: Callable[[EpochProgress], None] | None = None,
    monitor: Monitor | None = None,
    keep_best: bool = False,
) -> TrainResult:
    """Trains the model at an address on a data set's training split, and writes the checkpoint `out`.

    model: one of timm's architectures, such as `vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=8`, or a
    registered one, such as `arch/hvt?num_classes=10&img_size=32&patch_size=4`, or a checkpoint.
    data: where it has a split called train, that one is for training and the usual split is held out; else training uses all of it and
    nothing is held out. defenses: `name` or `name(key=value)`. stored: the dtype of the weights in the file; the accuracy is that of the
    rounded weights. During training, the weights after the last whole epoch are in `OUT.partial.safetensors`, and the whole state after it,
    or after five minutes, in `OUT.resume.pt`: however a run ends, the same call goes on from there, and to the same bytes. The message of
    a KeyboardInterrupt says so. Raises BadParameter, UnknownName, ModelError or DataError, before training where it can; StoreFull where
    the state cannot be written. Of several processes that torchrun started the first writes the files and measures the accuracy.
    monitor: is run while training goes on, and its measurements are in `OUT.measured.jsonl`. keep_best: the weights of the epoch with its
    best score are written in place of the last ones, and the accuracy is that of `part=evaluation` of the held-out split, as a monitor
    chooses on `part=calibration`.
    """
    if keep_best and monitor is None:
        raise BadParameter("keep_best chooses among the epochs that a monitor measures, and there is none; give --eval-suite.")
    partial = partial_of(out) if is_first() else out
    check_seed(seed)
    bound = bound_defenses(defenses)
    split = _split(data, data_dir)
    for part in split:
        if part is not None:
            refuse_ambiguous_order(part)
    if monitor is not None and split.held_out is None and monitor.data == calibration_part(data):
        raise BadParameter(
            f"data '{data}' has no split that training leaves out, and epochs are not chosen on trained images; give --eval-data."
        )
    start = loading.load_model(model, device=device)
    split.training.readings[0].check(_outputs(start), model, split.training.name)
    defense = composed(bound, split.training, device, data_dir)
    start.card = replace(start.card, classes=_classes(start, split.training))
    more = monitor.options() if monitor is not None and keep_best else ()
    about = _about(model, start, command(model, data, out.name, defenses=defenses, recipe=recipe, seed=seed, stored=stored, more=more))
    question = _question(start, split.training, bound, recipe, seed)
    resumed = read_state(state_of(out), question)
    finished = 0 if resumed is None else len(resumed.losses)

    watch = None if monitor is None else Watch(monitor, out.with_suffix(".measured.jsonl"), out.with_suffix(f".best{ENDING}"), finished)

    def save_epoch(now: EpochProgress) -> None:
        nonlocal finished
        write_checkpoint(partial, checkpoint_bytes(now.model, about, stored, start.learned))
        finished = now.epoch
        if watch is not None and watch.monitor.due(now.epoch, now.epochs):
            copied = _classifier(copy.deepcopy(now.model), start)
            watch.after(now.epoch, copied, lambda: checkpoint_bytes(now.model, about, "float32", start.learned))
        if progress is not None:
            progress(now)

    try:
        trained = train(
            start.model, split.training, view=start.view, mean=channels(start.mean), std=channels(start.std),
            defense=defense, recipe=recipe, seed=seed, device=device, progress=save_epoch, start=resumed,
            keep=lambda state: write_state(state_of(out), state, question),
        )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(interrupted(finished, recipe.epochs, partial, state_of(out))) from None
    chosen = watch.chosen if watch is not None and keep_best else None
    kept = loading.load_model(f"file:{watch.best}", device=device).model if watch is not None and chosen is not None else trained.model
    final = _classifier(rounded(kept, stored), start)
    measured = () if watch is None else tuple(watch.measured)
    result = TrainResult(final, trained.losses, None, trained.seconds, measured, chosen.epoch if chosen else recipe.epochs)
    if not is_first():
        return result
    judged = split.held_out if chosen is None or split.held_out is None else DataPart(split.held_out, "evaluation")
    held_out = accuracy(final, judged) if judged is not None else None
    write_checkpoint(out, checkpoint_bytes(final.model, replace(about, accuracy=held_out), stored, start.learned))
    for left in (partial, state_of(out), *(() if watch is None else (watch.best,))):
        remove_unfinished(left)
    return result._replace(accuracy=held_out)


def accuracy(model: Classifier, data: Data) -> float:
    """The accuracy of a model on a data set, in the data's first reading."""
    correct = 0
    for start in range(0, len(data), model.tile):
        batch = load_batch(data, np.arange(start, min(start + model.tile, len(data))), model.view, model.device)
        with torch.no_grad():
            correct += int((data.readings[0].read(model(batch.images)).argmax(dim=1) == batch.labels).sum())
    return correct / len(data)


def command(
    model: str, data: str, out: str, *, defenses: Sequence[str], recipe: Recipe, seed: int, stored: Stored, more: Sequence[str] = ()
) -> str:  # fmt: skip
    """The command line that repeats a training run. Options at their default are left out, except epochs and seed. more: further words."""
    words = ["robustvit", "train", "--model", model, "--data", data]
    words += [word for text in defenses for word in ("--defense", text)]
    words += ["--epochs", str(recipe.epochs), "--seed", str(seed)]
    for part in fields(Recipe):
        value = getattr(recipe, part.name)
        if part.name != "epochs" and value != getattr(RECIPE, part.name):
            words += [f"--{part.name.replace('_', '-')}", repr(value)]
    words += ["--stored", stored] if stored != "float16" else []
    return shlex.join([*words, *more, "--out", out])


class _Split(NamedTuple):
    training: Data
    held_out: Data | None


def _split(address: str, data_dir: Path | None) -> _Split:
    spec, _ = parse_data(address)
    split = next((param for param in registry.lookup("data", spec.name).params if param.name == "split"), None)
    if split is None or "train" not in split.hint.choices:
        return _Split(loading.load_data(address, data_dir=data_dir), None)
    if spec.get("split") is not None:
        raise BadParameter(f"data '{address}': training uses split 'train' and holds out '{split.default}' by itself; leave split out.")
    return _Split(loading.load_data(address, data_dir=data_dir, split="train"), loading.load_data(address, data_dir=data_dir))


def _about(address: str, start: Classifier, made_by: str) -> About:
    if type(start) is not Classifier:
        what = type(start).__name__.removeprefix("_")
        raise BadParameter(f"model '{address}' is a {what}, which computes more than its module, and training trains that alone.")
    try:
        about = about_of(start, made_by)
        if about.surgery:
            check_rebuilt(start, checkpoint_bytes(start.model, about, "float32", start.learned), "float32")
        return about
    except ModelError as error:
        raise BadParameter(
            f"model '{address}' could not be loaded again from its checkpoint: {error} Name one of timm's, or arch/hvt."
        ) from error


def _classes(start: Classifier, data: Data) -> tuple[str, ...]:
    """The names of the trained model's classes: the data's, whose order it learns, unless that is read from some of its own logits."""
    if data.readings[0].columns is not None or data.readings[0].groups is not None:
        return start.card.classes
    return tuple(data.classes) if names_classes(data.classes) else ()


def _outputs(start: Classifier) -> int:
    with torch.no_grad():
        return int(start(torch.zeros(1, 3, *start.size, device=start.device)).shape[1])


def _classifier(model: nn.Module, start: Classifier) -> Classifier:
    """The trained module as a Classifier with the normalisation and view of the model it was trained from."""
    card = replace(start.card, weights="given", fingerprint=fingerprint(model))
    made = Classifier(**constructor_arguments(start) | {"model": model, "card": card})
    made.gradient, made.learned = start.gradient, start.learned
    return made


def _question(start: Classifier, data: Data, defenses: Sequence[Spec], recipe: Recipe, seed: int) -> dict[str, str]:
    """All that the trained weights depend on, by name."""
    return {
        "model": start.card.label, "starting weights": start.card.fingerprint, "data": f"{data.name} ({data.fingerprint[:12]})",
        "view": str(start.view), "defense": " + ".join(map(str, defenses)), "seed": str(seed),
        **{part.name.replace("_", " "): repr(getattr(recipe, part.name)) for part in fields(Recipe)},
    }  # fmt: skip
