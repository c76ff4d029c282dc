"""Trains a model named by its address on a data set named by its address, and writes a checkpoint: `robustvit train`."""

from __future__ import annotations

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
from robustvit.evaluation.datasets import refuse_ambiguous_order
from robustvit.primitives.batch import Data
from robustvit.primitives.checkpoint import About, Stored, checkpoint_bytes, rounded
from robustvit.primitives.class_lookup import names_classes
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import channels, constructor_arguments
from robustvit.primitives.model_card import fingerprint
from robustvit.records.disk import sweep
from robustvit.spec import registry
from robustvit.spec.coercion import check_seed
from robustvit.spec.data_address import parse_data
from robustvit.spec.spec import Spec
from robustvit.training.defending import bound_defenses, composed
from robustvit.training.loop import Device, EpochProgress, load_batch, train
from robustvit.training.processes import is_first
from robustvit.training.recipe import RECIPE, Recipe
from robustvit.training.saving import ENDING, about_of, check_rebuilt, write_checkpoint
from robustvit.training.state import read_state, write_state

_GOES_ON = " The same command goes on from there."


class TrainResult(NamedTuple):
    """The trained model with its weights as stored, the loss of every epoch, and the accuracy on the held-out split (None without one)."""

    model: Classifier
    losses: tuple[float, ...]
    accuracy: float | None
    seconds: float


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
    """
    partial = _partial(out) if is_first() else out
    check_seed(seed)
    bound = bound_defenses(defenses)
    split = _split(data, data_dir)
    for part in split:
        if part is not None:
            refuse_ambiguous_order(part)
    start = loading.load_model(model, device=device)
    split.training.readings[0].check(_outputs(start), model, split.training.name)
    defense = composed(bound, split.training, device, data_dir)
    start.card = replace(start.card, classes=_classes(start, split.training))
    about = _about(model, start, command(model, data, out.name, defenses=defenses, recipe=recipe, seed=seed, stored=stored))
    question = _question(start, split.training, bound, recipe, seed)
    resumed = read_state(_resume(out), question)
    finished = 0 if resumed is None else len(resumed.losses)

    def save_epoch(now: EpochProgress) -> None:
        nonlocal finished
        write_checkpoint(partial, checkpoint_bytes(now.model, about, stored, start.learned))
        finished = now.epoch
        if progress is not None:
            progress(now)

    try:
        trained = train(
            start.model, split.training, view=start.view, mean=channels(start.mean), std=channels(start.std),
            defense=defense, recipe=recipe, seed=seed, device=device, progress=save_epoch, start=resumed,
            keep=lambda state: write_state(_resume(out), state, question),
        )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_interrupted(finished, recipe.epochs, partial, _resume(out))) from None
    final = _classifier(rounded(trained.model, stored), start)
    if not is_first():
        return TrainResult(final, trained.losses, None, trained.seconds)
    held_out = accuracy(final, split.held_out) if split.held_out is not None else None
    write_checkpoint(out, checkpoint_bytes(final.model, replace(about, accuracy=held_out), stored, start.learned))
    for left in (partial, _resume(out)):
        _remove(left)
    return TrainResult(final, trained.losses, held_out, trained.seconds)


def accuracy(model: Classifier, data: Data) -> float:
    """The accuracy of a model on a data set, in the data's first reading."""
    correct = 0
    for start in range(0, len(data), model.tile):
        batch = load_batch(data, np.arange(start, min(start + model.tile, len(data))), model.view, model.device)
        with torch.no_grad():
            correct += int((data.readings[0].read(model(batch.images)).argmax(dim=1) == batch.labels).sum())
    return correct / len(data)


def command(model: str, data: str, out: str, *, defenses: Sequence[str], recipe: Recipe, seed: int, stored: Stored) -> str:
    """The command line that repeats a training run. Options at their default are left out, except epochs and seed."""
    words = ["robustvit", "train", "--model", model, "--data", data]
    words += [word for text in defenses for word in ("--defense", text)]
    words += ["--epochs", str(recipe.epochs), "--seed", str(seed)]
    for part in fields(Recipe):
        value = getattr(recipe, part.name)
        if part.name != "epochs" and value != getattr(RECIPE, part.name):
            words += [f"--{part.name.replace('_', '-')}", repr(value)]
    words += ["--stored", stored] if stored != "float16" else []
    return shlex.join([*words, "--out", out])


def _partial(out: Path) -> Path:
    """The file for the weights of unfinished training. Raises BadParameter where `out` cannot be written."""
    if out.suffix != ENDING:
        raise BadParameter(f"--out is {out}; a checkpoint's name ends in {ENDING}.")
    if out.is_dir():
        raise BadParameter(f"--out is {out}, a folder; name a file in it, such as {out / 'mine.safetensors'}.")
    partial = out.with_suffix(f".partial{ENDING}")
    sweep(out.absolute().parent, of=out.name)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab"):
            pass
        if not partial.stat().st_size:
            partial.unlink()
    except OSError as error:
        raise BadParameter(f"--out is {out}; it cannot be written: {error.strerror}.") from error
    return partial


def _remove(partial: Path) -> None:
    """Removes the weights of unfinished training, unless another process that trained the same has done so."""
    try:
        partial.unlink(missing_ok=True)
    except OSError as error:
        raise BadParameter(f"{partial} cannot be removed: {error.strerror}. The trained weights are beside it, whole.") from error


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


def _resume(out: Path) -> Path:
    """The file for the state of unfinished training."""
    return out.with_suffix(".resume.pt")


def _interrupted(finished: int, epochs: int, partial: Path, state: Path) -> str:
    if not finished:
        return "stopped before the end of the first epoch: there are no weights to keep." + (_GOES_ON if state.exists() else "")
    return f"stopped after epoch {finished} of {epochs}; the weights of that epoch are in {partial}.{_GOES_ON}"
