"""The parameters of a scenario as tables write them, read back."""

from __future__ import annotations

import re


def parsed_parameters(text: str) -> dict[str, str]:
    """`norm=l2, attack=pgd(steps=3, eot=1)` by name."""
    return dict(pair.split("=", 1) for pair in re.split(r", (?![^(]*\))", text) if "=" in pair)


def attack_name(scenario: str, params: str) -> str:
    """`pgd`, or `pgd through host` for an attack that followed the gradients of the model before its transforms, which is another."""
    return f"{scenario} through host" if parsed_parameters(params).get("through") == "host" else scenario
