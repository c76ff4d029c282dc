"""The parameters of a scenario as tables write them, read back, and the columns that tell models apart."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from robustvit.spec.written.call import split_outside

_ORDINARY = {"transforms": "", "precision": "float32", "storage": ""}


def parsed_parameters(text: str) -> dict[str, str]:
    """`norm=l2, attack=pgd(steps=3, eot=1)` by name; what brackets hold stays together."""
    try:
        parts = split_outside(text, ", ")
    except ValueError:  # a path with a lone bracket
        parts = text.split(", ")
    return dict(part.split("=", 1) for part in parts if "=" in part)


def differing_parameters(text: str, others: Iterable[str]) -> str:
    """The parameters of a text that are not the same in all others, as that text has them; those that are none only where all are."""
    own, all_of_them = parsed_parameters(text), [parsed_parameters(other) for other in others]
    differing = {name: value for name, value in own.items() if any(other.get(name) != value for other in all_of_them)}
    given = {name: value for name, value in differing.items() if value != "None"}
    return ", ".join(f"{name}={value}" for name, value in (given or differing).items())


def crafted_elsewhere(params: str) -> bool:
    """Whether the images of a cell were crafted on another model, which its parameters then name."""
    return "surrogate=" in params and "surrogate" in parsed_parameters(params) and "attack" not in parsed_parameters(params)


def attack_name(scenario: str, params: str) -> str:
    """`pgd`; `pgd through host` where it followed the gradients of the model before its transforms; `pgd from demo`, where that is it."""
    given = parsed_parameters(params)
    if crafted_elsewhere(params):
        return f"{scenario} from {given['surrogate']}" + (f" stored as {given['stored_as']}" if "stored_as" in given else "")
    return f"{scenario} through host" if given.get("through") == "host" else scenario


def distinguishing(rows: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """Those of the columns that say which model, and what was done to it: with several values, or one that is not the ordinary one.

    A model's label is that of its weights; without its transforms, a precision other than float32 or what images were stored as, its
    numbers would be taken for those of the model as it is.
    """
    return [name for name in names if rows[name].nunique() > 1 or (name in _ORDINARY and bool((rows[name] != _ORDINARY[name]).any()))]
