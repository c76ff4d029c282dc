"""From addresses to a checkpoint: what `robustvit train` does."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter
from robustvit.evaluation import loading
from robustvit.primitives.batch import Data
from robustvit.primitives.checkpoint import About, Stored, rounded, save
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.defense import Defense, compose
from robustvit.primitives.model_card import fingerprint
from robustvit.spec import registry
from robustvit.spec.data_address import parse_data
from robustvit.spec.spec import called, plain
from robustvit.training.loop import Device, Progress, shown, train
from robustvit.training.recipe import RECIPE, Recipe

_ENDING = ".safetensors"


class TrainResult(NamedTuple):
    """The trained model with its weights as stored, the loss of every epoch, its accuracy on the held-out split (None without one)."""

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
    progress: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Trains the model at an address on a data set's training split, and writes the checkpoint `out`.

    model: of timm's architectures, such as `vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=8`. data:
    where it has a split called train, that one is learned and its usual split judged; else all of it is learned and nothing judged.
    defenses: `name` or `name?key=value`. stored: the type of the weights in the file; the accuracy is that of the rounded weights.
    While it learns, the weights after the last whole epoch lie in `OUT.partial.safetensors`; Ctrl-C leaves them there, and the
    KeyboardInterrupt says so. Raises BadParameter, UnknownName, ModelError or DataError, before anything is learned where it can.
    """
    partial = _partial(out)
    defense = compose([_defense(text) for text in defenses])
    split = _split(data, data_dir)
    start = loading.load_model(model, device=device)
    split.learned.readings[0].check(_outputs(start), model, split.learned.name)
    about = _about(model, start, command(model, data, out.name, defenses=defenses, recipe=recipe, seed=seed, stored=stored))
    reached = 0

    def keep(now: Progress) -> None:
        nonlocal reached
        save(now.model, partial, about, stored)
        reached = now.epoch
        if progress is not None:
            progress(now)

    try:
        trained = train(
            start.model, split.learned, view=start.view, mean=_channels(start.mean), std=_channels(start.std), defense=defense, recipe=recipe, seed=seed,
            device=device, progress=keep,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_interrupted(reached, recipe.epochs, partial)) from None
    kept = _classifier(rounded(trained.model, stored), start)
    score = accuracy(kept, split.judged) if split.judged is not None else None
    save(kept.model, out, replace(about, accuracy=score), stored)
    partial.unlink()
    return TrainResult(kept, trained.losses, score, trained.seconds)


def accuracy(model: Classifier, data: Data) -> float:
    """The share of a data set's samples that the model answers rightly, in the data's first reading."""
    right = 0
    for start in range(0, len(data), model.tile):
        batch = shown(data, np.arange(start, min(start + model.tile, len(data))), model.view, model.device)
        with torch.no_grad():
            right += int((data.readings[0].read(model(batch.images)).argmax(dim=1) == batch.labels).sum())
    return right / len(data)


def command(model: str, data: str, out: str, *, defenses: Sequence[str], recipe: Recipe, seed: int, stored: Stored) -> str:
    """The command line that trains this again. What stands at its default is left out, but for epochs and seed."""
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
    """Where the weights of unfinished training lie; `out` is tried for writing, at the door."""
    if out.suffix != _ENDING:
        raise BadParameter(f"--out is {out}; a checkpoint's name ends in {_ENDING}.")
    if out.is_dir():
        raise BadParameter(f"--out is {out}, a folder; name a file in it, such as {out / 'mine.safetensors'}.")
    partial = out.with_suffix(f".partial{_ENDING}")
    try:
        with partial.open("ab"):
            pass
        if not partial.stat().st_size:
            partial.unlink()
    except OSError as error:
        raise BadParameter(f"--out is {out}; nothing can be written there: {error.strerror}.") from error
    return partial


def _defense(text: str) -> Defense:
    spec = called(text, "defense")
    entry = registry.lookup("defense", spec.name)
    bound = registry.bind(entry, spec)
    made: Defense = entry.load()(**{key: plain(value) for key, value in bound.params})
    return made


class _Split(NamedTuple):
    learned: Data
    judged: Data | None


def _split(address: str, data_dir: Path | None) -> _Split:
    spec, _ = parse_data(address)
    split = next((param for param in registry.lookup("data", spec.name).params if param.name == "split"), None)
    if split is None or "train" not in split.hint.choices:
        return _Split(loading.load_data(address, data_dir=data_dir), None)
    if spec.get("split") is not None:
        raise BadParameter(f"data '{address}': training learns split 'train' and judges '{split.default}' by itself; leave split out.")
    return _Split(loading.load_data(address, data_dir=data_dir, split="train"), loading.load_data(address, data_dir=data_dir))


def _about(address: str, start: Classifier, made_by: str) -> About:
    named = start.card.identity
    if named.name != "timm":
        raise BadParameter(f"model '{address}' is not of timm, and its checkpoint could not say how to build it; name one that is.")
    return About(
        arch=str(named.get("arch")),
        kwargs=str(named.get("kwargs") or ""),
        num_classes=_outputs(start),
        mean=_channels(start.mean),
        std=_channels(start.std),
        view=start.view.as_dict(),
        command=made_by,
    )


def _outputs(start: Classifier) -> int:
    with torch.no_grad():
        return int(start(torch.zeros(1, 3, *start.size, device=start.device)).shape[1])


def _classifier(model: nn.Module, start: Classifier) -> Classifier:
    """The trained module behind the door of the model it came from."""
    card = replace(start.card, weights="given", fingerprint=fingerprint(model))
    return Classifier(model, mean=_channels(start.mean), std=_channels(start.std), view=start.view, card=card, tile=start.tile)


def _channels(values: Tensor | nn.Module) -> tuple[float, ...]:
    return tuple(torch.as_tensor(values).flatten().tolist())


def _interrupted(reached: int, epochs: int, partial: Path) -> str:
    if not reached:
        return "stopped before the first epoch was whole: there is nothing to keep."
    return f"stopped after epoch {reached} of {epochs}; the weights of that epoch are in {partial}."
