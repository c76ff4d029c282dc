"""The seventeen sets of model-vs-human: sixteen everyday categories in pictures that people were shown as well."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

from robustvit.data.annotations.model_vs_human_names import Seen, in_folder, in_session, plain_condition
from robustvit.data.annotations.model_vs_human_responses import answers
from robustvit.data.annotations.wnids import wnids
from robustvit.data.formats.files import Files, Listing, files, listing, need_folder, subfolders, written
from robustvit.errors import DataMissing, DataUnreadable, few, nearest
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import dataset

_IN_FOLDERS = ("edge", "silhouette", "cue-conflict")  # a folder for each category; the other sets say everything in the file's name


class Kind(NamedTuple):
    """One of the seventeen sets: how many pictures it has, and its conditions, each with whether the authors' averages count it."""

    expected: int
    conditions: dict[str, bool]


@dataset(
    name="model-vs-human",
    source="Geirhos et al. 2021, Partial success in closing the gap between human and machine vision",
    url="https://github.com/bethgelab/model-vs-human",
    licence="cue-conflict, edge, silhouette CC-BY-4.0; sketch MIT; stylized and the twelve parametric sets under the terms of ImageNet; the human "
    "responses come with the authors' repository (code MIT)",
    rules="Clone the authors' repository, unpack the seventeen archives of its release v0.1 (colour.tar.gz, … cue-conflict.tar.gz) into datasets/, and "
    "give --data-dir CLONE; or put the sets into one folder. The people's answers are the repository's raw-data/: beside datasets/, or in the folder "
    "of the sets. Without them there are accuracies and the shape bias, but no comparison with people. A model of a thousand classes gives each of "
    "the sixteen categories the mean probability of its classes.",
    citation="""@inproceedings{geirhos2021partial,
  title={Partial success in closing the gap between human and machine vision},
  author={Geirhos, Robert and Narayanappa, Kantharaju and Mitzkus, Benjamin and Thieringer, Tizian and Bethge, Matthias and
          Wichmann, Felix A and Brendel, Wieland},
  booktitle={Advances in Neural Information Processing Systems},
  year={2021}
}""",
)
def model_vs_human(
    root: Path | None,
    *,
    stimuli: Literal[
        "colour", "contrast", "high-pass", "low-pass", "phase-scrambling", "power-equalisation", "false-colour", "rotation",
        "eidolonI", "eidolonII", "eidolonIII", "uniform-noise", "sketch", "stylized", "edge", "silhouette", "cue-conflict",
    ] = "cue-conflict",
) -> Files:  # fmt: skip
    """One of the seventeen sets, labelled with sixteen categories; pictures are squares of 224 px.

    root: holds `<stimuli>/`, itself or in `datasets/`: `dnn/session-1/*.png` with names like `0001_cl_dnn_bw_oven_40_n04111531_14126.png`
    (number, set, who, condition, category, number, picture), or `<category>/*.png` for edge, silhouette and cue-conflict, there with names like
    `airplane1-bicycle2.png`: an airplane with the texture of a bicycle. Facts: `fact_condition`, "" where a set has none; `fact_counted`, 1 for
    conditions that the authors' averages count and 0 for those without manipulation or where people, too, are right less than 20 % of the time;
    `fact_texture`, the texture's category, for cue-conflict; and, where the answers of people are there, `fact_humans`: the category each
    person answered, in the order of their numbers, −1 for no answer in time.
    """
    place = _place(need_folder(root, "model-vs-human"), stimuli)
    found = listing(_inner(place, stimuli))
    seen = _seen(place, stimuli, found)
    own = Traits(base="model-vs-human", scenario=stimuli, cut=224, expected=kinds()[stimuli].expected, facts=_facts(place, stimuli, seen))
    return files(
        "model-vs-human", _inner(place, stimuli), found, ids=[f"model-vs-human/{stimuli}/{written(one.image)}" for one in seen],
        labels=[categories().index(one.category) for one in seen], classes=categories(), readings=(reading(),), traits=own,
    )  # fmt: skip


@functools.cache
def categories() -> tuple[str, ...]:
    """The sixteen categories, sorted."""
    return tuple(name for name, *_ in _table("categories"))


@functools.cache
def reading() -> Reading:
    """The mean probability of a category's classes answers for it, among the sixteen; all thousand share the softmax.

    The authors' table of categories names WordNet ids of which those among the thousand classes ship here, 207 in all.
    """
    index = {wnid: i for i, wnid in enumerate(wnids())}
    groups = tuple(tuple(index[wnid] for wnid in members) for _, *members in _table("categories"))
    return Reading("sixteen", len(groups), outputs=len(index), groups=groups, pool="mean")


@functools.cache
def kinds() -> dict[str, Kind]:
    """The seventeen sets by name. In the list, conditions that the authors' averages leave out stand in brackets."""
    return {name: Kind(int(expected), {one.strip("()"): one[0] != "(" for one in told}) for name, expected, *told in _table("sets")}


def _table(name: str) -> list[list[str]]:
    text = (resources.files("robustvit.data") / f"model_vs_human_{name}.txt").read_text(encoding="ascii")
    return [line.split() for line in text.splitlines()]


def _place(root: Path, stimuli: str) -> Path:
    """The folder that holds the sets."""
    for place in (root, root / "datasets"):
        if (place / stimuli).is_dir():
            return place
    there = [name for place in (root, root / "datasets") if place.is_dir() for name in subfolders(place) if name in kinds()]
    lacking = [name for name in kinds() if name not in there]
    held = (
        f"{len(lacking)} of the {len(kinds())} sets are missing: {few(lacking)}"
        if there
        else f"it holds {few(subfolders(root)) or 'no folders'}"
    )
    raise DataMissing(f"data 'model-vs-human': neither {root} nor its datasets/ holds {stimuli}/; {held}.")


def _inner(place: Path, stimuli: str) -> Path:
    """The folder that holds the pictures of a set."""
    inner = place / stimuli if stimuli in _IN_FOLDERS else place / stimuli / "dnn"
    if not inner.is_dir():
        raise DataMissing(
            f"data 'model-vs-human': {place / stimuli} holds {few(subfolders(place / stimuli)) or 'no folders'}; the pictures of {stimuli} "
            "lie in dnn/session-1/."
        )
    return inner


def _seen(place: Path, stimuli: str, found: Listing) -> list[Seen]:
    """What the names of the pictures tell, checked."""
    tell = in_folder if stimuli in _IN_FOLDERS else in_session
    seen = [tell(picture.path) for picture in found.pictures]
    where = f"data 'model-vs-human': in {place / stimuli}"
    told = [one for one in seen if one is not None]
    odd = [picture.path for picture, one in zip(found.pictures, seen, strict=True) if one is None]
    if odd:
        raise DataUnreadable(f"{where}, {len(odd)} of {len(seen)} pictures are not named as the release names them: {few(odd)}.")
    _refuse(where, "categories", [one.category for one in told], categories())
    if stimuli == "cue-conflict":
        _refuse(where, "textures", [one.texture for one in told], categories())
    if stimuli in _IN_FOLDERS:
        _refuse_displaced(where, told)
    elif kinds()[stimuli].conditions:
        _refuse(where, "conditions", [one.condition for one in told], tuple(kinds()[stimuli].conditions))
    return told


def _refuse(where: str, what: str, found: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in found if name not in known]
    if unknown:
        names = sorted(set(unknown))
        raise DataUnreadable(
            f"{where}, {len(unknown)} of {len(found)} pictures have {what} that are none of the {len(known)}: {few(names)}."
            f"{nearest(names[0], known)} They are {', '.join(known)}."
        )


def _refuse_displaced(where: str, seen: Sequence[Seen]) -> None:
    displaced = [f"{one.image} in {one.category}/" for one in seen if one.shape != one.category]
    if displaced:
        raise DataUnreadable(f"{where}, {len(displaced)} of {len(seen)} pictures lie in the folder of another category: {few(displaced)}.")


def _facts(place: Path, stimuli: str, seen: Sequence[Seen]) -> dict[str, Any]:
    known = kinds()[stimuli].conditions
    conditions = [plain_condition(one.condition) if known else "" for one in seen]
    facts: dict[str, Any] = {"fact_condition": conditions, "fact_counted": [int(known.get(name, True)) for name in conditions]}
    if stimuli == "cue-conflict":
        facts["fact_texture"] = [categories().index(one.texture) for one in seen]
    humans = answers(place, stimuli, seen, conditions, categories())
    return facts if humans is None else {**facts, "fact_humans": humans}
