"""Opens the data sets of a suite, puts their samples into evaluation order and limits their number."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from robustvit.errors import BadParameter, DataMissing, DataUnreadable, UsageError, few, with_article
from robustvit.evaluation.loading import load_data
from robustvit.primitives.batch import Data, Traits, left_out, traits
from robustvit.spec import registry
from robustvit.spec.data_address import named_folder
from robustvit.spec.grouping import grouped
from robustvit.spec.sample_order import Frames, order, starts
from robustvit.spec.spec import Spec
from robustvit.spec.suite import Suite


@dataclass(frozen=True, eq=False)
class Samples:
    """A data set in evaluation order and its scenarios.

    positions: of the samples in the data set, (N,). asked: the number of samples to evaluate, from the first. label: what tables call it.
    """

    data: Data
    positions: np.ndarray
    asked: int
    scenarios: tuple[Spec, ...]
    label: str = ""

    @classmethod
    def of(cls, data: Data, limit: int | float | None, scenarios: Sequence[Spec] = (), label: str = "") -> Samples:
        """The first `limit` samples, a count or a share, see `wanted`; clips with all their frames. Raises as `wanted` does."""
        positions = order(data.ids)
        bounds = starts(data.ids, positions)
        return cls(data, positions, int(bounds[wanted(limit, len(bounds) - 1)]), tuple(scenarios), label or data.name)

    @property
    def traits(self) -> Traits:
        """The traits of the data set."""
        return traits(self.data)

    @property
    def base(self) -> str:
        """The label of the data set whose images these are variants of; its own where they are none."""
        return self.traits.base or self.label

    @property
    def mismatch(self) -> str:
        """`7,412 of its 7,500 images`, or `20,000 images, 10,000 more than it has`, where the whole set is known to have another number."""
        whole = self.traits.expected
        if whole is None or isinstance(self.data.ids, Frames) or len(self.data) == whole:
            return ""
        if len(self.data) < whole:
            return f"{len(self.data):,} of its {whole:,} images"
        return f"{len(self.data):,} images, {len(self.data) - whole:,} more than its {whole:,}"

    @property
    def left_out(self) -> str:
        """What was found among the images and is left out, "" where nothing was."""
        return left_out(self.data)

    @property
    def spec(self) -> Spec:
        """The data set in a Cell: its name, scenario, severity and parameters."""
        named = {key: value for key, value in (("scenario", self.traits.scenario), ("severity", self.traits.severity)) if value}
        return Spec(self.data.name).with_params(**named, **dict(self.traits.params))


def wanted(limit: int | float | None, size: int) -> int:
    """The number of samples that a limit takes of `size`: a float up to 1 is a share (1.0 is all), anything else a count (1 is one).

    Raises BadParameter for a limit that takes none.
    """
    if limit is None:
        return size
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        raise BadParameter(f"--limit is {limit!r}; it takes a number of samples (200) or a share of them (0.1, or 1.0 for all).")
    if not limit > 0 or limit == float("inf") or (isinstance(limit, float) and limit > 1 and not limit.is_integer()):
        raise BadParameter(f"--limit is {limit:g}; it takes a number of samples (200) or a share of them (0.1, or 1.0 for all).")
    return max(1, round(limit * size)) if isinstance(limit, float) and limit <= 1 else min(int(limit), size)


class OpenedData(NamedTuple):
    """A data set of a suite with its scenarios; how the suite names it, None where it was given in place of the suite's own."""

    data: Data
    scenarios: tuple[Spec, ...]
    spec: Spec | None = None


def samples_of(opened: Sequence[OpenedData], limit: int | float | None) -> list[Samples]:
    """The first samples of each data set, see `Samples.of`.

    Tables call it by its name, with the parameters that differ where two of other content would have one name.
    """
    alike = grouped((_name_in_tables(one.data), one) for one in opened)
    return [Samples.of(one.data, limit, one.scenarios, _label(one, alike[_name_in_tables(one.data)])) for one in opened]


def _name_in_tables(data: Data) -> tuple[Any, ...]:
    own = traits(data)
    return data.name, own.base, own.scenario, own.severity, own.params


def _label(one: OpenedData, alike: Sequence[OpenedData]) -> str:
    others = [set(other.spec.params) for other in alike if other.spec is not None and other.data.fingerprint != one.data.fingerprint]
    if one.spec is None or not others:
        return one.data.name
    shared = set(one.spec.params).intersection(*others)
    return str(Spec(one.data.name, tuple(param for param in one.spec.params if param not in shared)))


def open_data(
    suite: Suite, data: str | Data | None, data_dir: Path | None, skipped: list[str] | None = None
) -> list[OpenedData]:  # fmt: skip
    """Opens the data sets of a suite, each with its scenarios; `data` replaces the suite's own, or the data set that is nested in it.

    skipped: takes the names of the suite's own data sets that are missing, where others are here; None where none may be. Raises
    UsageError where the suite fixes its data and another is given; DataMissing, naming all of them, where some are missing.
    """
    if data is not None and suite.fixed_data:
        names = ", ".join(dict.fromkeys(spec.name for spec in suite.data))
        raise UsageError(f"suite '{suite.name}' is about its own data ({names}); leave --data out.")
    given = load_data(data, data_dir=data_dir) if isinstance(data, str) else data
    if given is not None and not hasattr(given, "ids"):
        raise BadParameter(
            f"data takes an address, such as 'digits' or 'folder:PATH', or a data set; this is {with_article(type(given).__name__)}."
        )
    if given is None:
        return [OpenedData(one, suite.scenarios_on(spec), spec) for spec, one in _own(suite, data_dir, skipped)]
    if not any(_nests(spec) for spec in suite.data):
        return [OpenedData(given, suite.scenarios)]
    return [OpenedData(load_data(spec, inner=given) if _nests(spec) else given, suite.scenarios_on(spec)) for spec in suite.data]


def _own(suite: Suite, data_dir: Path | None, skipped: list[str] | None) -> list[tuple[Spec, Data]]:
    """The data sets of a suite; where one is missing, those that its scenarios take are looked for, too, so that all are named at once."""
    opened: list[tuple[Spec, Data]] = []
    missing: dict[str, list[str]] = {}
    for spec in suite.data:
        with _noting(missing, spec.name):
            opened.append((spec, load_data(spec, data_dir=suite.places.get(spec) or place_of(suite, spec, data_dir))))
    if opened and skipped is not None:
        skipped += missing
        return opened
    for spec in _of_scenarios(suite) if missing else ():
        with contextlib.suppress(DataUnreadable), _noting(missing, spec.name):
            load_data(spec, data_dir=place_of(suite, spec, data_dir))
    reasons = [_missing(name, errors) for name, errors in missing.items()]
    if len(reasons) > 1:
        raise DataMissing(f"{len(reasons)} data sets of suite '{suite.name}' are missing: {', '.join(missing)}.\n" + "\n".join(reasons))
    if reasons:
        raise DataMissing(reasons[0])
    return opened


@contextlib.contextmanager
def _noting(missing: dict[str, list[str]], name: str) -> Iterator[None]:
    try:
        yield
    except DataMissing as error:
        missing.setdefault(name, []).append(str(error))


def _of_scenarios(suite: Suite) -> list[Spec]:
    """The data sets that scenarios take as parameters, each once."""
    values = (value for scenario in suite.scenarios for _, value in scenario.params)
    return list(dict.fromkeys(value for value in values if isinstance(value, Spec) and value.kind == "data"))


def _missing(name: str, reasons: Sequence[str]) -> str:
    """The first reason, and the number of further parts of the data set that are missing for another."""
    more = len(set(reasons)) - 1
    return reasons[0] + (f" {more} more part{'s' if more > 1 else ''} of {name} cannot be found either." if more else "")


def _nests(spec: Spec) -> bool:
    return any(param.hint.plugin == "data" for param in registry.lookup("data", spec.name).params)


def place_of(suite: Suite, spec: Spec, data_dir: Path | None) -> Path | None:
    """The folder of a data set's files: `data_dir`, or the folder of one of its names in it where the suite has several data sets.

    A data set that nests another is given `data_dir` itself, in which both are looked for by their names.

    Raises DataUnreadable where several folders have such names.
    """
    several = len({one.name for one in (*suite.data, *_of_scenarios(suite))}) > 1
    if data_dir is None or not several or _nests(spec):
        return data_dir
    return named_folder(spec.name, data_dir.expanduser()) or data_dir / spec.name


def mismatches(many: Sequence[Samples]) -> list[str]:
    """A sentence for each data set that has not all its images, or too many: `imagenet-a holds 7,412 of its 7,500 images`."""
    return _sentences([(samples, samples.mismatch) for samples in many], " holds ")


def omissions(many: Sequence[Samples]) -> list[str]:
    """A sentence for each data set that leaves out what was found among its images: `folder: 3 linked folders`."""
    return _sentences([(samples, samples.left_out) for samples in many], ": ")


def _sentences(facts: Sequence[tuple[Samples, str]], joint: str) -> list[str]:
    """What is true of the first part of each data set for which there is a fact, with the number of its other such parts."""
    by_name = grouped((samples.data.name, (samples, fact)) for samples, fact in facts if fact)
    return [_sentence(name, parts, joint) for name, parts in by_name.items()]


def _sentence(name: str, parts: Sequence[tuple[Samples, str]], joint: str) -> str:
    first, fact = parts[0]
    shown = f"{name} {first.traits.scenario} {first.traits.severity}".strip() if len(parts) > 1 else name
    more = f"; likewise {len(parts) - 1} more parts of {name}" if len(parts) > 1 else ""
    return f"{shown}{joint}{fact}{more}"


def refuse_ambiguous_order(data: Data) -> None:
    """Raises BadParameter where only a user can say in which order the classes of a data set are numbered (see Traits)."""
    if message := traits(data).ambiguous_order:
        raise BadParameter(message)


def refuse_contradictions(many: Sequence[Samples]) -> None:
    """Raises DataUnreadable where variants of one data set give the same sample different labels."""
    known: dict[str, tuple[str, dict[str, str]]] = {}
    for data, own in ((samples.data, samples.traits) for samples in many):
        if isinstance(data.ids, Frames):
            continue
        shown = f"{data.name} {own.scenario} {own.severity}".strip()
        labels = {name: data.classes[label] for name, label in zip(data.ids, data.labels.tolist(), strict=True)}
        first, before = known.setdefault(own.base or data.name, (shown, labels))
        other = [name for name, label in labels.items() if before.get(name, label) != label]
        if other:
            raise DataUnreadable(f"'{first}' and '{shown}' give {len(other)} of the same samples different labels: {few(other)}.")
