"""One plug-in as data: its kind, name, parameters and source."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from robustvit.errors import whole_install_needed
from robustvit.spec.schema import Hint, Param
from robustvit.spec.view import INTERPOLATIONS, SMALLEST_SHARE

KINDS = ("model", "data", "corruption", "attack", "certificate", "analysis", "transform", "defense", "metric")
SCENARIOS = ("corruption", "attack", "certificate", "analysis")
PLURALS = {
    "model": "models", "data": "data", "corruption": "corruptions", "attack": "attacks", "certificate": "certificates",
    "analysis": "analyses", "transform": "transforms", "defense": "defenses", "metric": "metrics",
}  # fmt: skip

ARCHITECTURE = "arch/"  # what the names of models begin with that are functions from parameters to a network with random weights
_NUMBERS = Hint("a number, or one for each channel separated by commas, or null", base="float", optional=True, sequence=True)
_OF_ARCHITECTURES = (
    Param("weights", Hint("random", base="literal", choices=("random",)), "random"),
    Param("mean", _NUMBERS, None),
    Param("std", _NUMBERS, None),
    Param(
        "crop_pct",
        Hint(f"a number >= {SMALLEST_SHARE:g} and <= 1 or null", base="float", bounds=((">=", SMALLEST_SHARE), ("<=", 1)), optional=True),
        None,
    ),
    Param("interpolation", Hint(f"{', '.join(INTERPOLATIONS)} or null", base="literal", choices=(*INTERPOLATIONS,), optional=True), None),
)
"""What every architecture takes beside its own parameters."""

DECORATORS = {"dataset" if kind == "data" else kind: kind for kind in KINDS}  # by name: `rv.data` would be the folder


@dataclass(frozen=True)
class Entry:
    """One plug-in: what it is called, what it takes, where it lives, and where it comes from.

    severity: the parameter that tables show as severity, `attack.eps` inside a nested one.
    Data sets: folders, further names of the folder of their files; downloads, the files that `--download` fetches, each a dict of `url`
    and, where they are known, `size` in bytes, `md5` or `sha256`, `source` (where these were read), `into` (a folder of the data set to
    unpack it in) and `only` ({parameter: values} that need the file); `{parameter}` in a url is one file for each of its values
    (robustvit.evaluation.downloads.declared).
    Corruptions: smallest, for each severity the shorter side in pixels below which half of an image lies outside; any_channels, whether
    they take other images than RGB.
    Metrics: title, what readers call it where that is not its name with spaces (`expected calibration error` for `ece`); over; of, the
    metric that one over several cells is of; descriptive, where neither more nor less of it is better, so that nothing is ranked by it;
    needs, the columns of Records that it reads (`value_ood_{score}` is that of its parameter score); beside, a metric that it stands beside
    wherever a cell has their columns; marks, for one over several cells, the name of a function of the same arguments that says why its
    value is marked, or ""; curve, the parameter that reports draw it over: rows
    with a value of it are points of a curve, which other lists leave out.
    Attacks: budget, what their severity is, with its unit, where that is no radius (`largest shift, px`); chain; label_free, where they
    read neither labels nor logits, so that a surrogate may have any outputs.
    Attacks and analyses: fit, the name of a function that makes what they learn of other samples.
    Analyses: reads_labels, where they compare predictions with labels, and see the model through the data's first Reading; group, the
    parameter that is the size of the groups of samples that they measure together; headless, where they read no outputs of the model, so
    that it needs no head.
    Attacks and corruptions: tells, columns `value_…` of the Records that they fill, an attack besides its counts.
    Attacks, certificates and analyses: passes, the parameters whose product is the number of passes through the model for one sample, or
    the name of a function that counts them; without it `plan` times a few samples.
    Transforms: hosts, the kind of model that it takes (a key of HOSTS); no_op, the arguments with which it changes nothing (`bits=32`);
    head, of one that replaces the head the parameter that names its classes (a data set, or a number); resizes, where it changes the size
    of images; class_maps, what reports draw of what it learned (`heads` for `heads.0`, …, (units, classes) of each block, in [0, 1]).
    """

    kind: str
    name: str
    module: str
    function: str
    params: tuple[Param, ...]
    doc: str
    path: str
    line: int
    title: str = ""
    family: str = ""
    source: str = ""
    url: str = ""
    licence: str = ""
    citation: str = ""
    rules: str = ""
    folders: tuple[str, ...] = ()
    downloads: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    version: int = 1
    severity: str = ""
    budget: str = ""
    over: str = "cell"
    of: str = "error"
    beside: str = ""
    higher_is_better: bool = True
    descriptive: bool = False
    unit: str = ""
    needs: tuple[str, ...] = ()
    chain: bool = False
    fit: str = ""
    label_free: bool = False
    reads_labels: bool = False
    group: str = ""
    headless: bool = False
    any_channels: bool = False
    tells: tuple[str, ...] = ()
    passes: tuple[str, ...] | str = ()
    marks: str = ""
    curve: str = ""
    smallest: tuple[int, ...] = ()
    hosts: str = "any"
    no_op: str = ""
    class_maps: str = ""
    head: str = ""
    resizes: bool = False
    table: str = ""
    live: Callable[..., Any] | None = field(default=None, compare=False, repr=False)

    def load(self) -> Callable[..., Any]:
        """The function itself; its module is imported now."""
        if self.live is not None:
            return self.live
        found = self.load_beside(self.function)
        return functools.partial(found, self.name) if self.table else found

    def load_beside(self, name: str) -> Callable[..., Any]:
        """Another function of its module, such as the one that `fit` names."""
        with whole_install_needed(f"{self.kind} '{self.name}'"):
            module = importlib.import_module(self.module)
        return getattr(module, name)  # type: ignore[no-any-return]

    @property
    def accepted(self) -> tuple[Param, ...]:
        """The parameters that a Spec may give: its own, and for an architecture those that every one of them takes."""
        if not self.architecture:
            return self.params
        own = {param.name for param in self.params}
        return (*self.params, *(param for param in _OF_ARCHITECTURES if param.name not in own))

    @property
    def architecture(self) -> bool:
        """Whether it makes a network of its parameters, rather than loading a model."""
        return self.kind == "model" and self.name.startswith(ARCHITECTURE)

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.doc.strip().splitlines()[0] if self.doc.strip() else ""

    @property
    def stored(self) -> bool:
        """Whether it makes corrupted images, which a suite may send through a storage format: a corruption with a severity."""
        return self.kind == "corruption" and bool(self.severity)

    @property
    def adapter(self) -> bool:
        """Whether it makes plug-ins of names, rather than being one."""
        return self.name.endswith("/")


class Adapted(NamedTuple):
    """What an adapter makes of a name: a function that takes what its kind does and every parameter by keyword, these, a docstring."""

    function: Callable[..., Any]
    params: tuple[Param, ...]
    doc: str


def two_claim(known: Entry, other: Entry) -> str:
    """The message that two functions are registered under one name."""
    first, second = (f"{one.module}:{one.function} (line {one.line})" for one in (known, other))
    return f"two plug-ins claim the {other.kind} '{other.name}': {first} and {second}. Give one of them another name, with name=…."
