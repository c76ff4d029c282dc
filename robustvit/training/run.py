"""Trains a model named by its address on a data set named by its address, and writes a checkpoint: `robustvit train`."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from robustvit.errors import BadParameter, ModelError
from robustvit.evaluation import loading
from robustvit.evaluation.data_part import DataPart
from robustvit.evaluation.datasets import refuse_ambiguous_order
from robustvit.evaluation.loggers.log_kinds import LogFacts, open_log
from robustvit.primitives.batch import Data
from robustvit.primitives.checkpoint import Stored, checkpoint_bytes, rounded
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import channels
from robustvit.spec import registry
from robustvit.spec.coercion import check_seed
from robustvit.spec.data_address import parse_data
from robustvit.spec.spec import Spec
from robustvit.spec.written.pipeline import shown_steps, write_pipeline
from robustvit.training.defending import bound_defenses, composed
from robustvit.training.epochs import load_batch
from robustvit.training.loop import Device, EpochProgress, StepProgress, train
from robustvit.training.monitor import Measured, Monitor, Watch, calibration_part
from robustvit.training.output import good_weights, interrupted, partial_of, remove_unfinished, state_of
from robustvit.training.processes import is_first
from robustvit.training.recipe import RECIPE, Recipe
from robustvit.training.saving import ENDING, address_of_file, write_checkpoint
from robustvit.training.start import about_trained, starting_model, trained_model
from robustvit.training.state import read_state, write_state
from robustvit.training.structure import stored_type, structured


class TrainResult(NamedTuple):
    """The trained model with its weights as stored, the loss of every epoch, and the accuracy on the held-out split (None without one).

    measured: what a monitor found after epochs. epoch: that whose weights are kept, the last unless the best are to be kept.
    """

    model: Classifier
    losses: tuple[float, ...]
    accuracy: float | None
    seconds: float
    measured: tuple[Measured, ...] = ()
    epoch: int = 0


def train_from_spec(
    model: str | None = None,
    data: str = "digits",
    *,
    start: str | None = None,
    out: Path,
    defenses: Sequence[str] = ("plain",),
    recipe: Recipe = RECIPE,
    seed: int = 0,
    device: Device = "cpu",
    stored: Stored | None = None,
    data_dir: Path | None = None,
    progress: Callable[[EpochProgress], None] | None = None,
    each: Callable[[StepProgress], None] | None = None,
    log_to: str | None = None,
    monitor: Monitor | None = None,
    keep_best: bool = False,
    new_head: bool = False,
) -> TrainResult:
    """Trains the model at an address on a data set's training split, and writes the checkpoint `out`.

    model: an architecture with random weights, of timm, such as
    `vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=8`, or a registered one, such as
    `arch/hvt?num_classes=10&img_size=32&patch_size=4`. start: in place of it, a model whose weights training starts from: any address,
    transforms included.
    data: where it has a split called train, that one is for training and the usual split is held out; else training uses all of it and
    nothing is held out. defenses: `name` or `name(key=value)`. stored: the dtype of the weights in the file, float16 unless a tuning
    freezes weights that it would round; the accuracy is that of the rounded weights. new_head: `start` gets one for the data's classes.
    During training, the weights after the last whole epoch are in `OUT.partial.safetensors`, and the whole state after it, or after five
    minutes, in `OUT.resume.pt`: however a run ends, the same call goes on from there, and to the same bytes. The message of a
    KeyboardInterrupt says so. Raises BadParameter, UnknownName, ModelError or DataError, before training where it can; StoreFull where the
    state cannot be written. Of several processes that torchrun started the first writes the files and measures the accuracy. monitor: is
    run while training goes on, and its measurements are in `OUT.measured.jsonl`. keep_best: the weights of the epoch with its best score
    are written in place of the last ones, and the accuracy is that of `part=evaluation` of the held-out split, as a monitor chooses on
    `part=calibration`. progress, each: are called after every epoch and every step. log_to: jsonl, tensorboard, wandb or
    mlflow, for the loss and learning rate of every step and what a monitor measures, in `OUT.log.jsonl` or a folder such as `OUT.wandb`.
    """
    if keep_best and monitor is None:
        raise BadParameter("keep_best chooses among the epochs that a monitor measures, and there is none; give --eval-suite.")
    partial = partial_of(out) if is_first() else out
    check_seed(seed)
    bound = bound_defenses(defenses)
    split = _split(data, data_dir)
    _refuse_chosen_on_trained(monitor, split, data)
    begun = starting_model(model, start, split.training, device, new_head)
    stored = stored or stored_type(begun, bound)
    defense = composed(bound, split.training, device, data_dir)
    more = monitor.options() if monitor is not None and keep_best else ()
    more += ("--new-head",) if new_head else ()
    question = _question(begun, split.training, bound, recipe, seed)
    network, begun = begun.model, structured(begun, defense)  # from here on, what a checkpoint of the trained model names
    own = ("--model", model) if model is not None else ("--from", str(start))
    repeated = command(own, data, out.name, defenses=defenses, recipe=recipe, seed=seed, stored=stored, more=more)
    about = about_trained(begun, repeated)
    resumed = read_state(state_of(out), question)
    finished, steps = (0, 0) if resumed is None else (len(resumed.losses), resumed.step)

    watch = None if monitor is None else Watch(monitor, out.with_suffix(".measured.jsonl"), out.with_suffix(f".best{ENDING}"), finished)
    log = None if log_to is None or not is_first() else open_log(log_to, out, steps, _log_facts(out, repeated, recipe, seed))

    def save_epoch(now: EpochProgress) -> None:
        nonlocal finished
        write_checkpoint(partial, checkpoint_bytes(now.model, about, stored, begun.learned))
        finished = now.epoch
        if watch is not None and watch.monitor.due(now.epoch, now.epochs):
            copied = trained_model(copy.deepcopy(now.model), begun)
            found = watch.after(now.epoch, copied, lambda: checkpoint_bytes(now.model, about, "float32", begun.learned))
            if log is not None:
                log.write(now.steps, {"clean": found.clean, "score": found.score})
        if progress is not None:
            progress(now)

    def report(now: StepProgress) -> None:
        if log is not None:
            log.write(now.step, {"epoch": now.epoch, "loss": now.loss, "lr": now.lr, "seconds": now.seconds})
        if each is not None:
            each(now)

    try:
        trained = train(
            network, split.training, view=begun.view, mean=channels(begun.mean), std=channels(begun.std),
            defense=defense, recipe=recipe, seed=seed, device=device, progress=save_epoch, each=report, start=resumed,
            keep=lambda state: write_state(state_of(out), state, question),
        )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(interrupted(finished, recipe.epochs, partial, state_of(out))) from None
    except ModelError as error:
        raise ModelError(f"{error}{good_weights(finished, partial)}") from error
    finally:
        if log is not None:
            log.close()
    chosen = watch.chosen if watch is not None and keep_best else None
    best = None if watch is None or chosen is None else loading.load_model(address_of_file(begun, str(watch.best)), device=device)
    final = trained_model(rounded(trained.model if best is None else best.model, stored), begun)
    measured = () if watch is None else tuple(watch.measured)
    result = TrainResult(final, trained.losses, None, trained.seconds, measured, chosen.epoch if chosen else recipe.epochs)
    if not is_first():
        return result
    judged = split.held_out if chosen is None or split.held_out is None else DataPart(split.held_out, "evaluation")
    held_out = accuracy(final, judged) if judged is not None else None
    write_checkpoint(out, checkpoint_bytes(final.model, replace(about, accuracy=held_out), stored, begun.learned))
    for left in (partial, state_of(out), *(() if watch is None else (watch.best,))):
        remove_unfinished(left)
    return result._replace(accuracy=held_out)


def _log_facts(out: Path, again: str, recipe: Recipe, seed: int) -> LogFacts:
    """What a log says of the training that it is of."""
    settings = {name: value for name, value in asdict(recipe).items() if isinstance(value, str | int | float | bool)}
    return LogFacts(out.stem, "training", {"command": again, "seed": seed, **settings})


def accuracy(model: Classifier, data: Data) -> float:
    """The accuracy of a model on a data set, in the data's first reading."""
    correct = 0
    for start in range(0, len(data), model.tile):
        batch = load_batch(data, np.arange(start, min(start + model.tile, len(data))), model.view, model.device)
        with torch.no_grad():
            correct += int((data.readings[0].read(model(batch.images)).argmax(dim=1) == batch.labels).sum())
    return correct / len(data)


def command(
    start: Sequence[str], data: str, out: str, *, defenses: Sequence[str], recipe: Recipe, seed: int, stored: Stored,
    more: Sequence[str] = (),
) -> str:  # fmt: skip
    """The command line that repeats a training run. Options at their default are left out, except epochs and seed.

    start: `--model ADDRESS` or `--from ADDRESS`. more: further words.
    """
    words = ["robustvit", "train", *start, "--data", data]
    words += [word for text in defenses for word in ("--defense", text)]
    words += ["--epochs", str(recipe.epochs), "--seed", str(seed)]
    for part in fields(Recipe):
        value = getattr(recipe, part.name)
        if part.name != "epochs" and value != getattr(RECIPE, part.name):
            words += [f"--{part.name.replace('_', '-')}", repr(value)]
    words += ["--stored", stored] if stored != "float16" else []
    return shlex.join([*words, *more, "--out", out])


def _refuse_chosen_on_trained(monitor: Monitor | None, split: _Split, data: str) -> None:
    """Raises BadParameter where the images on which epochs are chosen are those of training, or their order is ambiguous."""
    for part in split:
        if part is not None:
            refuse_ambiguous_order(part)
    if monitor is not None and split.held_out is None and monitor.data == calibration_part(data):
        raise BadParameter(
            f"data '{data}' has no split that training leaves out, and epochs are not chosen on trained images; give --eval-data."
        )


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


def _question(start: Classifier, data: Data, defenses: Sequence[Spec], recipe: Recipe, seed: int) -> dict[str, str]:
    """All that the trained weights depend on, by name."""
    return {
        "model": start.card.label + write_pipeline(shown_steps(start.card.transforms)), "starting weights": start.card.fingerprint,
        "data": f"{data.name} ({data.fingerprint[:12]})",
        "view": str(start.view), "defense": " + ".join(map(str, defenses)), "seed": str(seed),
        **{part.name.replace("_", " "): repr(getattr(recipe, part.name)) for part in fields(Recipe)},
    }  # fmt: skip
