"""Suite files: found by name, validated, and every part bound to its plug-in."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustvit.errors import BadParameter, SuiteError, few, nearest
from robustvit.spec import registry, yaml_reader
from robustvit.spec.binding import bind
from robustvit.spec.code_names import refusing_code
from robustvit.spec.data_address import parse_data
from robustvit.spec.given import check_path
from robustvit.spec.shipped_files import shipped_folder
from robustvit.spec.spec import Spec, parse, refuse_product
from robustvit.spec.suite import OWN, Part, Suite, crafted
from robustvit.spec.view import Overrides, View
from robustvit.spec.written.call import called
from robustvit.spec.written.suite_keys import SuiteKeys, checked_keys

_PLACED = re.compile(r"[a-z][\w-]*(:(?!//)|/)")  # folder:PATH, wds/PATH
_ALLOW = "If you trust this suite, give --allow-code (in Python: load_suite(…, allow_code=True)); it is then imported from this folder."


def suite_files() -> dict[str, Path]:
    """The suites that ship with robustvit, by name."""
    return {path.stem: path for path in sorted(shipped_folder("suites", "suites").glob("*.yaml"))}


def load_suite(name: str | Path, *, allow_code: bool = False) -> Suite:
    """Loads a suite by name (`imagenet-c`) or from a file (`mine.yaml`), with every part bound.

    allow_code: whether the file may name code (`package.module:function`), which is imported now. Raises SuiteError, UnknownName,
    BadParameter or CodeRefused, with file and line.
    """
    known = suite_files()
    if str(name) in known:
        return read_suite(known[str(name)], f"suites/{name}.yaml")
    path = check_path(name, "--suite")
    if is_suite_file(name) or path.exists():
        return read_suite(_existing(path), str(name), allow_code=allow_code)
    raise SuiteError(
        f"no suite is called '{name}'.{nearest(str(name), known)} The suites are {', '.join(known)}; a file is given as PATH.yaml."
    )


def is_suite_file(name: str | Path) -> bool:
    """Whether a suite is given by its file, whether or not that is there: `mine.yaml`, or a path with a slash to a file."""
    path = check_path(name, "--suite")
    return path.suffix in (".yaml", ".yml") or (len(path.parts) > 1 and path.is_file())


def name_in_file(path: Path) -> str:
    """The name of the suite in a file, of which nothing else is looked at. Raises SuiteError where it has none."""
    name = yaml_reader.read_yaml(_existing(path)).get("name")
    if not isinstance(name, str):
        raise SuiteError(f"{path}: a suite needs the key 'name'.")
    return name


def _existing(path: Path) -> Path:
    if not path.exists():
        raise SuiteError(f"{path}: there is no such suite file.")
    return path


def read_suite(path: Path, shown: str = "", *, allow_code: bool = False) -> Suite:
    """Reads the suite in a file. shown: the name of the file in messages; allow_code: as `load_suite` takes it."""
    page = yaml_reader.read_yaml(path, shown)
    with refusing_code("" if allow_code else _ALLOW):
        return _bound_suite(page, checked_keys(page), path.absolute().parent)


def _bound_suite(page: yaml_reader.Map, file: SuiteKeys, folder: Path) -> Suite:
    places = Places(folder)
    suite = Suite(
        name=file.name, title=file.title, version=file.version, parts=_parts(page, places), places=places.found,
        metrics=tuple(_bound("metric", page["metrics"], page.where)), transforms=tuple(_pipelines(page.get("transforms", []))) or ((),),
        seeds=tuple(file.seeds), view=_overrides(page.get("view", {}), page), limit=file.limit,
        storage=None if file.storage is None else bind_storage(page["storage"], page.places["storage"]), fixed_data=file.fixed_data,
        attack_through=_several(file.attack_through),
        surrogates=() if file.surrogates is None else _several(file.surrogates), stored_as=_several(file.stored_as),
        surrogate_labels=file.surrogate_labels,
        paper=file.paper, url=file.url, licence=file.licence, citation=file.citation, rules=file.rules, where=page.where,
    )  # fmt: skip
    lengths = (sum(len(part.data) * len(part.scenarios) for part in suite.parts), len(suite.transforms), len(suite.seeds))
    refuse_product(lengths, f"{page.where}: scenarios on data, pipelines of transforms and seeds")
    _refuse_repeats(suite)
    _check_surrogates(suite, page)
    return suite


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    """One word or several, each once."""
    return (value,) if isinstance(value, str) else tuple(dict.fromkeys(value))


def _check_surrogates(suite: Suite, page: yaml_reader.Map) -> None:
    """Raises SuiteError where no attack could be crafted on the suite's surrogates, or where they are set without any."""
    if not suite.surrogates:
        for key in ("stored_as", "surrogate_labels"):
            if key in page:
                raise SuiteError(f"{page.places[key]}: {key} is about images that are crafted on surrogates; give surrogates, too.")
        return
    place = page.places["surrogates"]
    if not any(crafted(spec) for spec in suite.scenarios):
        raise SuiteError(f"{place}: surrogates are what attacks are crafted on, and this suite has no attack.")
    for spec in suite.scenarios:
        if registry.scenario_entry(spec.name).chain:
            raise SuiteError(
                f"{spec.where}: '{spec.name}' is a chain, whose attacks go on with what survives on one model; of images that are crafted "
                "on surrogates name single attacks, such as apgd_ce."
            )
    if suite.attack_through != (OWN,):
        raise SuiteError(f"{page.places['attack_through']}: with surrogates, list the model before its transforms among them.")


class Places:
    """Where the files of data sets are that a suite file names with a place. folder: its own, which relative places start from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[Spec, Path] = {}

    def note(self, spec: Spec, place: Path, where: str) -> None:
        """Keeps a place. Raises SuiteError where the data set has another."""
        whole = self.folder / place
        if self.found.setdefault(spec, whole) != whole:
            raise SuiteError(f"{where}: '{spec}' has two places, {self.found[spec]} and {whole}; give one of them parameters of its own.")


def _parts(page: yaml_reader.Map, places: Places) -> tuple[Part, ...]:
    """The parts of a suite: its `parts`, or one part of the data and scenarios at its top."""
    blocks = list(zip(page["parts"], page["parts"].places, strict=True)) if "parts" in page else [(page, page.where)]
    if "parts" in page and {"data", "scenarios"} & page.keys():
        raise SuiteError(f"{page.places['parts']}: a suite has parts, or data and scenarios of its own; this one has both.")
    return tuple(_part(block, place, places) for block, place in blocks)


def _part(block: yaml_reader.Map, where: str, places: Places) -> Part:
    for key in ("data", "scenarios"):
        if key not in block:
            raise SuiteError(f"{where}: a suite needs the key '{key}'.")
    return Part(tuple(bind_data(block["data"], block.places["data"], places)), tuple(_scenarios(block["scenarios"])))


def bind_data(node: Any, where: str = "", placed: Places | None = None) -> list[Spec]:
    """The bound Specs of the data sets of a suite: `digits`, `digits?split=train`, `{digits: {split: train}}`, or a list of such.

    placed: notes where the files are of those that are named with a place, `folder:PATH`. A list in a parameter's place is an axis. Raises
    UnknownName or BadParameter.
    """
    nodes = node if isinstance(node, list) else [node]
    places = getattr(nodes, "places", [where] * len(nodes))
    pairs = list(zip(nodes, places, strict=True))
    found = []
    for one, place in pairs:
        spec, files = _data_spec(one, place)
        bound = list(_bound("data", [spec], place))
        if files is not None:
            if placed is None:
                raise BadParameter(f"{place}: '{one}' says where files are, which only a suite file does.")
            placed.note(bound[0], files, place)
        found += bound
    return found


def _data_spec(node: Any, place: str) -> tuple[Any, Path | None]:
    """The Spec of a data set, not yet bound, and where its files are, if it says that."""
    if isinstance(node, str) and _PLACED.match(node):
        spec, files = parse_data(node)
        return replace(spec, where=place), files
    if isinstance(node, str) and "?" in node:
        return replace(called(node, f"{place}: data"), where=place), None
    return node, None


def _scenarios(nodes: yaml_reader.Seq) -> Iterable[Spec]:
    for node, place in zip(nodes, nodes.places, strict=True):
        for spec in parse(node, place):
            yield bind(registry.scenario_entry(spec.name, spec.where or place), spec)


def _pipelines(nodes: Any) -> Iterable[tuple[Spec, ...]]:
    """Every pipeline of transforms, with a list in a parameter's place as an axis: one pipeline for each combination."""
    for pipeline in nodes:
        steps = [list(_bound("transform", [node], place)) for node, place in zip(pipeline, pipeline.places, strict=True)]
        refuse_product(map(len, steps), f"{pipeline.where}: the lists among the arguments of a pipeline")
        yield from itertools.product(*steps)


def _bound(kind: str, nodes: Any, where: str) -> Iterable[Spec]:
    places = getattr(nodes, "places", [where] * len(nodes))
    for node, place in zip(nodes, places, strict=True):
        for spec in parse(node, place):
            yield bind(registry.lookup(kind, spec.name, spec.where), spec)


def bind_storage(node: Any, where: str = "") -> Spec:
    """The bound corruption that simulates storage: `jpeg85`, or JPEG of another quality. Raises BadParameter for anything else."""
    short = re.fullmatch(r"jpeg(\d{1,3})", node) if isinstance(node, str) else None
    if short is None:
        raise BadParameter(f"{where}: storage is {node!r}; it takes jpeg85, as the released files were stored, or jpeg1 to jpeg95.")
    (spec,) = parse({"jpeg": {"quality": int(short[1])}}, where)
    return bind(registry.lookup("corruption", spec.name, where), spec)


def _overrides(view: dict[str, Any], page: yaml_reader.Map) -> Overrides:
    keys = [name for name in Overrides.__dataclass_fields__ if name != "whole"]
    for key in view:
        if key not in keys:
            raise SuiteError(f"{page.places['view']}: a view has no key '{key}'.{nearest(key, keys)} It takes {', '.join(keys)}.")
    try:
        overrides = Overrides(**view)
        overrides.apply(View())
    except (BadParameter, TypeError) as error:
        raise SuiteError(f"{page.places['view']}: {error}") from error
    return overrides


def _refuse_repeats(suite: Suite) -> None:
    if len(set(suite.seeds)) < len(suite.seeds):
        raise SuiteError(f"{suite.where}: seeds are different whole numbers from 0; got {few(list(map(str, suite.seeds)))}.")
    if len(set(suite.metrics)) < len(suite.metrics):
        raise SuiteError(f"{suite.where}: a metric occurs twice: {', '.join(str(spec) for spec in suite.metrics)}.")
    if len(set(suite.transforms)) < len(suite.transforms):
        pipelines = " · ".join(" → ".join(map(str, pipeline)) or "[]" for pipeline in suite.transforms)
        raise SuiteError(f"{suite.where}: a pipeline of transforms occurs twice: {pipelines}.")
    for part in suite.parts:
        _refuse_twins((spec, spec) for spec in (*part.data, *part.scenarios))
    _refuse_twins(((data, spec), spec) for part in suite.parts for data in part.data for spec in part.scenarios)


def _refuse_twins(keyed: Iterable[tuple[object, Spec]]) -> None:
    seen: dict[object, str] = {}
    for key, spec in keyed:
        if key in seen:
            raise SuiteError(f"{spec.where}: '{spec}' occurs twice in this suite (first at {seen[key]}).")
        seen[key] = spec.where
