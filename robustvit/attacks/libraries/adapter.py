"""Adapts attacks of other libraries: imports them, reads their parameters, wraps the model and seeds their random numbers.

A library draws from global generators, for a whole batch at once. They are seeded from the samples' draws and restored afterwards: the same
batch gets the same images, but a row depends on the other rows of its batch. Runs reproduce where their batches do.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import random
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from importlib import metadata
from typing import Any, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin

import numpy as np
import torch
from torch import Tensor, nn

from robustvit.attacks.losses import log_odds, untargeted
from robustvit.errors import GradientAbsent, MissingExtra, RobustvitError, UnknownName, nearest
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.spec.plugin import Adapted
from robustvit.spec.schema import ABSENT, Hint, Param, SourceModule, hint_of
from robustvit.spec.spec import digest

log = logging.getLogger(__name__)

PASSES = (  # the names that libraries give to parameters whose product is about the number of gradients
    "steps", "n_iter", "nb_iter", "n_queries", "restarts", "n_restarts", "eot_iter", "nb_sample", "binary_search_steps",
    "candidates", "n_target_classes",
)  # fmt: skip
RADIUS = "Annotated[float, Gt(0)]"
_FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError)
_PLAIN = (bool, int, float, str)
_WRITTEN = 12  # digits: nobody writes a longer decimal by hand; 0.0313… stands for 8/255
_DENOMINATOR = 2550  # the largest denominator of fractions for pixels: 255 and tenths of a level
_SEEDED = "The library's random numbers are seeded by the batch: a row depends on the samples in its batch."


class Library(NamedTuple):
    """An imported library."""

    name: str
    module: types.ModuleType
    version: str


class LibraryCall(NamedTuple):
    """One batch for a library's attack.

    images: (N, 3, H, W) in [0, 1]; labels: (N,); both are copies. seed: 32 bits. arguments: those of the Spec, under our names.
    """

    model: LibraryModel
    images: Tensor
    labels: Tensor
    seed: int
    arguments: dict[str, Any]


Craft: TypeAlias = Callable[[LibraryCall], Tensor]
"""Runs a library's attack and returns its images unchanged."""


class LibraryModel(nn.Module):
    """A Classifier as other libraries expect models: a module from pixels to logits that accepts any pixels.

    Some attacks query pixels outside [0, 1] on their way (a look-ahead, added noise). They get the logits of the pixels clipped to [0, 1],
    with the gradient passed straight through the clipping. What an attack returns is not clipped. `gradient_used`: whether a gradient was
    requested.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.gradient_used = False
        self.eval()

    @property
    def outputs(self) -> int:
        """The number of logits."""
        return self.classifier.outputs

    @property
    def label(self) -> str:
        """The name of the classifier in messages."""
        return self.classifier.card.label

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, K) float32 logits. Raises GradientAbsent where a gradient is requested and the classifier has none."""
        clipped = images - images.detach() + images.detach().clamp(0.0, 1.0)
        logits: Tensor = self.classifier(clipped)
        self.gradient_used |= clipped.requires_grad
        if clipped.requires_grad and not logits.requires_grad:
            raise GradientAbsent(
                f"model '{self.label}' gives no input gradient, which this attack needs. Attack it without gradients (square)."
            )
        return logits


def library(name: str, module: str = "") -> Library:
    """An installed library and its module of attacks. Raises MissingExtra, which says how to install it."""
    try:
        return Library(name, importlib.import_module(module or name), metadata.version(name))
    except ImportError as error:
        raise MissingExtra(f"attacks of {name} ({name}/…) need {name}: python3 -m pip install 'robustvit[{name}]' ({error}).") from error


def unknown(found: Library, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that is not one of the library's attacks, with the nearest name."""
    names = sorted(known)
    alike = [one for one in names if one.lower() == name.lower()]
    hint = f" Did you mean '{alike[0]}'?" if alike else nearest(name, names)
    return UnknownName(f"{found.name} {found.version} has no attack '{name}' that can run here.{hint} It has {', '.join(names)}.")


def adapted(found: Library, name: str, params: Iterable[Param], craft: Craft, doc: str) -> Adapted:
    """A library's attack as an attack of robustvit, in float32 whatever the model's precision.

    params: its own, under our names. The library's version is added to them as `library`, so that it is part of a cell's identity. craft:
    runs it. doc: its description. Its images are checked like those of any other attack. An error inside the library is raised again as a
    RobustvitError that names the library.
    """
    title = f"{found.name}/{name}"

    def run(model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, library: str, **arguments: Any) -> Crafted:
        wrapped, seed = LibraryModel(model), _seed(draws)
        try:
            with _seeded(seed, images.device), torch.enable_grad(), model.in_float32(), _output_logged(title):
                returned = craft(LibraryCall(wrapped, images.clone(), labels.clone(), seed, arguments))
        except _FAULTS as error:
            raise RobustvitError(
                f"attack '{title}': {found.name} {library} failed on {len(images)} samples of model '{model.card.label}': "
                f"{type(error).__name__}: {error}"
            ) from error
        return Crafted(returned, _columns(wrapped, images, labels, draws))

    version = Param("library", Hint(found.version, base="literal", choices=(found.version,)), found.version)
    description = f"{name} of {found.name} {found.version}.\n\n{_SEEDED}\n\n{doc}".strip()
    return Adapted(run, (*params, version), description)


def parameters(constructor: Callable[..., Any], without: Iterable[str], kinds: Mapping[str, str]) -> list[Param]:
    """The parameters of a library's constructor with its defaults, except those named in `without`.

    The type of a parameter is its annotation, or else the type of its default. kinds: types by parameter name, from a docstring: an integer
    default that the docstring calls a float takes any number.
    """
    found = []
    for one in inspect.signature(constructor, eval_str=True).parameters.values():
        if one.name in without or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue
        default = ABSENT if one.default is one.empty else _exact(one.default)
        text = _of_default(one.default, kinds.get(one.name, "")) if one.annotation is one.empty else _written(one.annotation)
        found.append(parameter(one.name, text, default))
    return found


def parameter(name: str, takes: str, default: Any = ABSENT) -> Param:
    """A parameter by the text of its annotation."""
    return Param(name, hint_of(takes, SourceModule("")), default)


def choice(values: Iterable[str]) -> str:
    """The annotation of a parameter that takes one of the strings `values`."""
    return f"Literal{list(values)!r}"


def _written(annotation: Any) -> str:
    """An annotation in robustvit's form: `X | None` for Optional[X], one Literal for a Union of several."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        choices = [value for one in inner if get_origin(one) is Literal for value in get_args(one)]
        return choice(choices) if choices else " | ".join(_written(one) for one in inner)
    if origin is Literal:
        return choice(inner)
    if origin is tuple:
        return f"tuple[{_written(inner[0])}, ...]"
    return "None" if annotation is type(None) else inspect.formatannotation(annotation)


def _of_default(default: Any, kind: str) -> str:
    if isinstance(default, tuple) and default:
        return f"tuple[{_of_default(default[0], kind)}, ...]"
    if type(default) is int and kind == "float":
        return "float"
    return type(default).__name__ if type(default) in _PLAIN else ""


def _exact(default: Any) -> Any:
    """A default in the form a person would write: 8/255 for 0.03137254901960784."""
    if not isinstance(default, float) or len(repr(default)) <= _WRITTEN:
        return default
    fraction = Fraction(default).limit_denominator(_DENOMINATOR)
    return fraction if float(fraction) == default else default


def _seed(draws: Draws) -> int:
    """A seed of 32 bits from the run's seed, the stream and the id of every sample."""
    return int(digest((draws.seed, draws.stream, *draws.ids))[:8], 16)


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the global generators of torch, numpy and Python in the block and restores them afterwards."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    cards = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cards):
            torch.default_generator.manual_seed(seed)
            for card in cards:
                with torch.cuda.device(card):
                    torch.cuda.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@contextlib.contextmanager
def _output_logged(title: str) -> Iterator[None]:
    """Sends what the block prints to the log."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            log.debug("%s: %s", title, line)


def _columns(model: LibraryModel, images: Tensor, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
    """The columns of the Records: −1 for what no library reports; if a gradient was used, its kind, from one query at the clean images."""
    search = Search(model.classifier, images, labels, draws)
    if model.gradient_used:
        search.query_gradient(search.active, images, untargeted(log_odds, labels))
    unreported = torch.full((len(images),), -1, dtype=torch.int32, device=images.device)
    return {"steps": unreported, "queries": unreported, "gradients": unreported, "gradient": search.outcome().columns["gradient"]}
