"""How fast this machine computes, learned from its runs and kept in the cache folder."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from robustvit.primitives.classifier import Classifier
from robustvit.records.disk import write_output
from robustvit.records.user_cache import cache_folder

_MOST = 10_000.0  # images that an earlier speed counts for at most beside a new one
_NEAR, _SAME_KIND, _OTHER_KIND, _GUESSED = 1.3, 2.0, 3.0, 5.0  # how far off an estimate may be; the tests hold what was measured
_FAR = 5.0  # doublings of MACs beyond which a speed tells nothing: calls, and not MACs, take the time of the smallest models
_SHARE = 0.3  # of the speed of a matrix product that networks reach, for machines without any run
_SIDE = 512
_VERSION = 1


class Rate(NamedTuple):
    """MACs a second. factor: how far it may be off, either way; origin: where it is from, for people."""

    macs: float
    factor: float
    origin: str


class Speeds:
    """What is known of this machine: MACs a second of models by kind and size, and seconds for an image of corruptions.

    known: as the file has it, see `of_this_machine`.
    """

    def __init__(self, known: Mapping[str, Any] | None = None) -> None:
        given = dict(known or {})
        self.models: dict[str, list[float]] = dict(given.get("models", {}))
        self.scenarios: dict[str, list[float]] = dict(given.get("scenarios", {}))

    def rate(self, model: Classifier, macs: int) -> Rate:
        """That of a model of so many MACs: of its kind and size where one like it ran here, else of the nearest that did."""
        own = _where(model)
        places = {key: _Place.of(key) for key in self.models if key.startswith(f"{own} | ")}
        if not places:
            return Rate(_product_rate(model.device), _GUESSED, "a matrix product; no model was run here yet")
        kind, size = type(model.model).__name__, math.log2(max(macs, 1))
        nearest = min(places, key=lambda key: (places[key].kind != kind, abs(places[key].size - size)))
        apart = abs(places[nearest].size - size)
        if apart > _FAR:
            like = f"no model of about {macs / 1e9:.2g} G MACs was run here yet"
            return Rate(_product_rate(model.device), _GUESSED, f"a matrix product; {like}")
        factor = _OTHER_KIND if places[nearest].kind != kind else _NEAR if apart <= 1 else _SAME_KIND
        images, seconds_per_mac = self.models[nearest]
        what = "a model like it" if factor == _NEAR else f"a {places[nearest].kind} of {2 ** places[nearest].size / 1e9:.2g} G MACs"
        return Rate(1.0 / seconds_per_mac, factor, f"{what}, {images:.0f} images")

    def beside(self, scenario: str, size: tuple[int, int]) -> float | None:
        """Seconds for an image of a scenario beside the passes through the model, None where it never ran here."""
        found = self.scenarios.get(f"{scenario} {size[0]}x{size[1]}")
        return None if found is None else found[1]

    def learn(self, model: Classifier, macs: int, forwards: float, images: int, seconds: float) -> None:
        """Takes over how long images took that went through the model so many times."""
        key = f"{_where(model)} | {type(model.model).__name__} | {round(math.log2(max(macs, 1)))}"
        _mix(self.models, key, images, seconds / (images * forwards * macs))

    def learn_beside(self, scenario: str, size: tuple[int, int], images: int, seconds: float) -> None:
        """Takes over how long images took a scenario, beside the passes through the model."""
        _mix(self.scenarios, f"{scenario} {size[0]}x{size[1]}", images, max(0.0, seconds / images))


class _Place(NamedTuple):
    """The kind of a model and the logarithm of its MACs, to the base 2."""

    kind: str
    size: float

    @classmethod
    def of(cls, key: str) -> _Place:
        _, kind, size = key.rsplit(" | ", 2)
        return cls(kind, float(size))


def of_this_machine() -> Speeds:
    """What the cache folder holds; nothing where there is no such file, or one that cannot be read."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        page = json.loads((cache_folder() / "speeds.json").read_text())
        if page.get("version") == _VERSION and all(_sound(page[name]) for name in ("models", "scenarios")):
            return Speeds(page)
    return Speeds()


def keep(speeds: Speeds) -> None:
    """Writes them; where the cache folder cannot be written to, the next estimate is as sure as this one was."""
    page = {"version": _VERSION, "models": speeds.models, "scenarios": speeds.scenarios}
    with contextlib.suppress(OSError):
        cache_folder().mkdir(parents=True, exist_ok=True)
        write_output(cache_folder() / "speeds.json", (json.dumps(page, indent=1, sort_keys=True) + "\n").encode())


def _sound(table: Mapping[str, list[float]]) -> bool:
    return all(len(pair) == 2 and min(pair) >= 0.0 and math.isfinite(sum(pair)) for pair in table.values())


def _mix(table: dict[str, list[float]], key: str, images: float, value: float) -> None:
    earlier, known = table.get(key, [0.0, 0.0])
    earlier = min(earlier, _MOST)
    table[key] = [earlier + images, (earlier * known + images * value) / (earlier + images)]


def _where(model: Classifier) -> str:
    """What decides the speed beside the model: the device, its threads, the precision."""
    device = model.device
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {model.precision}"
    return f"{device}, {torch.get_num_threads()} threads, {model.precision}"


def _product_rate(device: torch.device) -> float:
    """MACs a second of a network by a matrix product's, timed for some hundredths of a second."""
    one = torch.ones(_SIDE, _SIDE, device=device)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        float((one @ one)[0, 0])
        times.append(time.perf_counter() - began)
    return _SHARE * _SIDE**3 / min(times)
