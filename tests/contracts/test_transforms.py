"""Laws of every registered transform, on every kind of vision transformer, at its defaults or at settings listed here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import vits
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.scenario import parameters
from robustvit.spec.binding import bind
from robustvit.spec.registry import entries, lookup
from robustvit.spec.spec import parse

NO_OP: dict[str, dict[str, Any]] = {"attention_temperature": {"temperature": 1}}  # settings that change nothing
SETTINGS: dict[str, dict[str, Any]] = {"attention_temperature": {"temperature": 2}}  # where the defaults do not do
CASES = [(name, make) for name in entries("transform") for make in vits.ALL]
law = pytest.mark.parametrize(("name", "make"), CASES, ids=["-".join(case) for case in CASES])


def transformed(name: str, host: Classifier, settings: dict[str, dict[str, Any]]) -> Classifier:
    if settings is NO_OP and name not in NO_OP:
        pytest.skip(f"NO_OP lists no setting of '{name}' that changes nothing")
    spec = bind(lookup("transform", name), parse({name: settings.get(name, {})})[0])
    made: Classifier = lookup("transform", name).load()(host, **parameters(spec))
    return made


def slope(model: Classifier, pixels: Tensor) -> Tensor:
    leaf = pixels.clone().requires_grad_()
    return torch.autograd.grad(model(leaf).logsumexp(dim=1).sum(), leaf)[0]


def test_every_transform_names_its_source() -> None:
    assert set(NO_OP) | set(SETTINGS) <= set(entries("transform"))
    assert all(entry.source and entry.doc for entry in entries("transform").values())


@law
def test_a_no_op_setting_gives_the_hosts_logits(name, make) -> None:
    host, pixels = vits.made(vits.ALL[make]), vits.images(6)
    assert torch.allclose(transformed(name, host, NO_OP)(pixels), host(pixels), atol=1e-5)


@law
def test_it_changes_the_logits_and_not_its_host(name, make) -> None:
    host, pixels = vits.made(vits.ALL[make]), vits.images(6)
    before, weights = host(pixels), {key: value.clone() for key, value in host.state_dict().items()}
    apart = transformed(name, host, SETTINGS)(pixels) - before
    assert float(apart.abs().max()) > 1e-3
    assert torch.equal(host(pixels), before)
    assert all(torch.equal(value, weights[key]) for key, value in host.state_dict().items())


@law
def test_rows_and_their_gradients_do_not_depend_on_companions(name, make) -> None:
    model, pixels = transformed(name, vits.made(vits.ALL[make]), SETTINGS), vits.images(7)
    logits, gradients = model(pixels), slope(model, pixels)
    for start, stop in ((0, 1), (4, 7)):
        assert torch.equal(model(pixels[start:stop]), logits[start:stop])
        assert torch.equal(slope(model, pixels[start:stop]), gradients[start:stop])


@law
def test_gradients_are_those_of_its_own_logits(name, make) -> None:
    model, pixels = transformed(name, vits.made(vits.ALL[make], sharp=2.0), SETTINGS), 0.3 + 0.4 * vits.images(2)
    gradient = slope(model, pixels)
    way = 0.05 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    ends = [model(pixels + sign * way).logsumexp(dim=1) for sign in (1, -1)]
    assert torch.allclose(ends[0] - ends[1], 2 * (gradient * way).sum(dim=(1, 2, 3)), rtol=0.05)


@law
def test_small_tiles_change_no_bit(name, make) -> None:
    model, pixels = transformed(name, vits.made(vits.ALL[make]), SETTINGS).configure(tile=16), vits.images(3)
    whole = model(pixels)
    with model.with_small_tiles():
        assert all(torch.equal(model(pixels), whole) for _ in range(5))


@law
def test_it_can_follow_a_transform(name, make) -> None:
    host, pixels = vits.made(vits.ALL[make]), vits.images(2)
    twice = transformed(name, transformed(name, host, SETTINGS), NO_OP)
    assert torch.allclose(twice(pixels), transformed(name, host, SETTINGS)(pixels), atol=1e-5)
