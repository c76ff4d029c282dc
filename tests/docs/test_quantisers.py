"""docs/quantisers.md says of every quantiser what the registry and the models that it makes say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import vits
from torch import nn

from robustvit.primitives.surgery.pipelines import apply_transform
from robustvit.spec.binding import bind
from robustvit.spec.registry import entries, lookup
from robustvit.spec.spec import Spec, parse

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "quantisers.md").read_text(encoding="utf-8")
FAMILY = [entry.name for entry in entries("transform").values() if entry.family == "quantisation" and entry.module.startswith("robustvit.")]
OPERANDS = ("weights", "inputs", "GELU", "QKV", "maps")


def table(first: str) -> list[dict[str, str]]:
    """The rows of the table whose first column has that head."""
    lines = PAGE.partition(f"| {first} |")[2].splitlines()
    heads = [first, *(cell.strip() for cell in lines[0].strip(" |").split("|"))]
    rows = (line for line in lines[2:] if line.startswith("|"))
    found = []
    for line in rows:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != len(heads):
            break
        found.append(dict(zip(heads, cells, strict=True)))
    return found


ROWS = {row["transform"]: row for row in table("transform")}


def made(name: str, **more: Any):
    """The transform on a plain model, not calibrated."""
    entry = lookup("transform", name)
    given = {param.name: "digits" for param in entry.params if param.hint.plugin == "data"} | more
    spec: Spec = bind(entry, parse({name: given})[0])
    return apply_transform(vits.made(vits.vit), spec, dict.fromkeys(["calibration"] if entry.fit else []))


def quantised(model: Any) -> dict[str, bool]:
    """What of a model is quantised."""
    host, block = vits.made(vits.vit).model, model.model.blocks[0]
    slots = getattr(block.attn, "quantisers", {})
    return {
        "weights": not torch.equal(block.mlp.fc1.weight, host.blocks[0].mlp.fc1.weight),
        "inputs": not isinstance(getattr(block.mlp.fc1, "inputs", nn.Identity()), nn.Identity),
        "GELU": not isinstance(getattr(block.mlp.fc2, "inputs", nn.Identity()), nn.Identity),
        "QKV": "key" in slots and not isinstance(slots["key"], nn.Identity),
        "maps": "map" in slots and not isinstance(slots["map"], nn.Identity),
    }


def test_the_table_is_the_registry() -> None:
    assert len(FAMILY) >= 8
    assert set(ROWS) == set(FAMILY)


@pytest.mark.parametrize("name", FAMILY)
def test_every_parameter_is_in_its_row_and_no_other(name) -> None:
    words = set(re.findall(r"`(\w+)`", " ".join(ROWS[name].values())))
    assert words == {param.name for param in lookup("transform", name).params}


@pytest.mark.parametrize("name", FAMILY)
def test_hosts_and_calibration_are_those_of_the_registry(name) -> None:
    entry = lookup("transform", name)
    assert ROWS[name]["hosts"] == entry.hosts
    assert ("`calibration`" in ROWS[name]["calibration"]) == bool(entry.fit)


@pytest.mark.parametrize("name", FAMILY)
def test_what_is_quantised_is_what_its_bits_say(name) -> None:
    told = {operand: ROWS[name][operand].strip("`") for operand in OPERANDS}
    bits = {told[operand] for operand in OPERANDS} - {"–"}
    assert all(parameter in ("dtype", *(param.name for param in lookup("transform", name).params)) for parameter in bits)
    for parameter in bits:
        if parameter == "dtype":
            assert quantised(made(name, dtype="bfloat16"))["weights"]
            continue
        others = dict.fromkeys(bits - {parameter}, 32)
        assert quantised(made(name, **others, **{parameter: 4})) == {operand: told[operand] == parameter for operand in OPERANDS}


@pytest.mark.parametrize("name", FAMILY)
def test_the_policy_is_that_of_the_model(name) -> None:
    told = ROWS[name]["policy"]
    assert made(name).gradient == told.partition(" ")[0]
    hard = "gradient" in {param.name for param in lookup("transform", name).params}
    assert hard == ("`gradient`" in told)
    if hard:
        assert made(name, gradient="none").gradient == "absent"


def test_every_address_of_a_published_method_names_quantisers() -> None:
    for row in table("method"):
        for address in re.findall(r"`([^`]+)`", row["here"]):
            for call in address.split("+"):
                name, _, arguments = call.strip(")").partition("(")
                known = {param.name for param in lookup("transform", name).params}
                assert name in FAMILY
                assert {one.partition("=")[0] for one in arguments.split(",") if one and one != "…"} <= known
