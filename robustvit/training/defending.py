"""Defenses by name, with the models and data sets that they name loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from robustvit.errors import BadParameter, UnknownName, nearest, with_article
from robustvit.evaluation.evaluate import through_reading
from robustvit.evaluation.pipelines.nested import loaded_plugins
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.defense import Defense, compose
from robustvit.primitives.scenario import parameters
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.spec import Spec, parse
from robustvit.spec.written.call import called

TUNING = "tuning"  # the family of defenses that freeze what they do not train
_FULL = "full"


def load_defense(name: str, /, **params: Any) -> Defense:
    """The defense of a name, for a training loop of one's own: `loss = load_defense("plain", smoothing=0.1)(model, batch, draws)`.

    name: also with its parameters, as on a command line, `"trades(eps=4/255)"`. params: its own, as in a suite file (`eps="4/255"`); a
    nested model may be a Classifier, or is loaded by its address, as a nested data set is. Several defenses at once: `rv.compose`.
    Raises UnknownName or BadParameter.
    """
    if "(" in name and not params:
        (spec,) = bound_defenses([name])
        return _made(spec, loaded_plugins(spec))
    given = {key: value for key, value in params.items() if isinstance(value, Classifier)}
    specs = parse({name: {key: value.card.label if key in given else value for key, value in params.items()}})
    if len(specs) != 1:
        raise BadParameter(f"the lists among {', '.join(params)} stand for {len(specs)} defenses; a value that is a sequence is [[…]].")
    bound = bind(registry.lookup("defense", specs[0].name), specs[0])
    return _made(bound, loaded_plugins(bound, given))


def bound_defenses(texts: Sequence[str]) -> tuple[Spec, ...]:
    """Defenses as a command line has them, `NAME` or `NAME(key=value)`, bound; nothing is loaded. Raises UnknownName or BadParameter."""
    specs = [called(text, "defense") for text in texts]
    return tuple(bind(registry.lookup("defense", spec.name), spec) for spec in specs)


def learning_from(teacher: str, kept: Path | None = None) -> str:
    """The defense, as a command line has it, by which a model learns from the one at an address.

    kept: a file for the teacher's ten most probable classes of each image. Raises BadParameter for an address with quotation marks.
    """
    if '"' in teacher or '"' in str(kept):
        raise BadParameter(f"--distill {teacher}: an address there may have no quotation marks.")
    file = "" if kept is None else f', kept="{kept}", top=10'
    return f'distillation(teacher="{teacher}"{file})'


def tuned_by(tuning: str) -> tuple[str, ...]:
    """The defense that trains what a tuning trains, as a command line has it; () for `full`, which trains everything.

    tuning: `full`, or the name of a defense of the family `tuning`, with or without its parameters. Raises UnknownName or BadParameter.
    """
    if tuning == _FULL:
        return ()
    name, known = called(tuning, "tuning").name, [one for one, entry in registry.entries("defense").items() if entry.family == TUNING]
    if name not in known:
        raise UnknownName(f"no tuning is called '{name}'.{nearest(name, [_FULL, *known])} There are {', '.join([_FULL, *known])}.")
    bound_defenses([tuning])
    return (tuning,)


def composed(defenses: Sequence[Spec], data: Data, device: torch.device | str, data_dir: Path | None = None) -> Defense:
    """Bound defenses as one, with what they name loaded. data: what is trained on, by whose classes nested models are read.

    Raises ModelError for a nested model of other classes, BadParameter for defenses that do not go together.
    """

    def read(plugin: Any) -> Any:
        return through_reading(plugin, data) if isinstance(plugin, Classifier) else plugin

    nested = ({key: read(one) for key, one in loaded_plugins(spec, device=device, data_dir=data_dir).items()} for spec in defenses)
    return compose([_made(spec, plugins) for spec, plugins in zip(defenses, nested, strict=True)])


def _made(spec: Spec, plugins: dict[str, Any]) -> Defense:
    made = registry.lookup("defense", spec.name).load()(**parameters(spec, plugins))
    if not isinstance(made, Defense):
        raise BadParameter(f"the defense '{spec.name}' must return a Defense; it returned {with_article(type(made).__name__)}.")
    return made
