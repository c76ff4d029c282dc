"""Replacing layers of a module."""

from __future__ import annotations

from torch import nn

from robustvit.primitives.surgery.modules import named_layers, replace_layer


def test_a_layer_that_stands_in_several_places_is_named_once_and_replaced_in_all() -> None:
    shared, own, new = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    module = nn.ModuleList([nn.Sequential(shared, own), nn.Sequential(shared)])
    assert [name for name, _ in named_layers(module, nn.Linear)] == ["0.0", "0.1"]
    replace_layer(module, "0.0", new)
    assert [list(part) for part in module] == [[new, own], [new]]


def test_a_layer_may_be_replaced_by_one_around_it() -> None:
    inner = nn.Linear(2, 2)
    module = nn.Sequential(inner)
    replace_layer(module, "0", nn.Sequential(inner))
    assert module[0][0] is inner
