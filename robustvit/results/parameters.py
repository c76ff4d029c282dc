"""The parameters of a scenario as tables write them, read back."""

from __future__ import annotations

from collections.abc import Iterable

from robustvit.spec.written.call import split_outside


def parsed_parameters(text: str) -> dict[str, str]:
    """`norm=l2, attack=pgd(steps=3, eot=1)` by name; what brackets hold stays together."""
    try:
        parts = split_outside(text, ", ")
    except ValueError:  # a path with a lone bracket
        parts = text.split(", ")
    return dict(part.split("=", 1) for part in parts if "=" in part)


def differing_parameters(text: str, others: Iterable[str]) -> str:
    """The parameters of a text that are not the same in all others, as that text has them."""
    own, all_of_them = parsed_parameters(text), [parsed_parameters(other) for other in others]
    differing = {name: value for name, value in own.items() if any(other.get(name) != value for other in all_of_them)}
    return ", ".join(f"{name}={value}" for name, value in differing.items())


def attack_name(scenario: str, params: str) -> str:
    """`pgd`, or `pgd through host` for an attack that followed the gradients of the model before its transforms, which is another."""
    return f"{scenario} through host" if parsed_parameters(params).get("through") == "host" else scenario
