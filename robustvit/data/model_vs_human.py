"""The seventeen sets of model-vs-human: images of sixteen everyday categories, with the responses of people."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

from robustvit.data.annotations.model_vs_human_names import Stimulus, parse_in_folder, parse_session, plain_condition
from robustvit.data.annotations.model_vs_human_responses import responses
from robustvit.data.annotations.wnids import class_indices
from robustvit.data.formats.files import FileDataset, file_dataset
from robustvit.data.formats.listing import Listing, as_text, first_folder, list_files, need_folder, some_subfolders, subfolders
from robustvit.errors import DataMissing, DataUnreadable, few, nearest
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import dataset

_IN_FOLDERS = ("edge", "silhouette", "cue-conflict")  # a folder for each category; the other sets have everything in the file's name


class StimulusSet(NamedTuple):
    """One of the seventeen sets: its number of images, and its conditions, each with whether the authors' averages include it."""

    expected: int
    conditions: dict[str, bool]


@dataset(
    name="model-vs-human",
    downloads=({"url": "https://github.com/bethgelab/model-vs-human/releases/download/v0.1/{stimuli}.tar.gz"},),
    source="Geirhos et al. 2021, Partial success in closing the gap between human and machine vision",
    url="https://github.com/bethgelab/model-vs-human",
    licence="cue-conflict, edge, silhouette CC-BY-4.0; sketch MIT; stylized and the twelve parametric sets under the terms of ImageNet; "
    "the human "
    "responses come with the authors' repository (code MIT)",
    rules="Clone the authors' repository, unpack the seventeen archives of its release v0.1 (colour.tar.gz, … cue-conflict.tar.gz) into "
    "datasets/, and "
    "give --data-dir CLONE; or put the sets into one folder. The people's responses are the repository's raw-data/: beside datasets/, or "
    "in the folder "
    "of the sets. Without them there are accuracies and the shape bias, but no comparison with people. A model of a thousand classes gives "
    "each of "
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
) -> FileDataset:  # fmt: skip
    """One of the seventeen sets, labelled with sixteen categories; images are squares of 224 px.

    root: holds `<stimuli>/`, itself or in `datasets/`: `dnn/session-1/*.png` with names like `0001_cl_dnn_bw_oven_40_n04111531_14126.png`
    (number, set, observer, condition, category, number, image), or `<category>/*.png` for edge, silhouette and cue-conflict, there with
    names like `airplane1-bicycle2.png`: an airplane with the texture of a bicycle. Facts: `fact_condition`, "" where a set has none;
    `fact_counted`, 1 for conditions that the authors' averages include and 0 for those without manipulation or where people, too, are right
    less than 20 % of the time; `fact_texture`, the texture's category, for cue-conflict; and, where the responses of people are there,
    `fact_humans`: the category that each person chose, in the order of their numbers, −1 for no response in time.
    """
    place = _place(need_folder(root, "model-vs-human"), stimuli)
    inner = _image_folder(place, stimuli)
    found = list_files(inner)
    shown = _stimuli(place, stimuli, found)
    expected, facts = stimulus_sets()[stimuli].expected, _facts(place, stimuli, shown)
    return file_dataset(
        "model-vs-human", inner, found, ids=[f"model-vs-human/{stimuli}/{as_text(one.image)}" for one in shown],
        labels=[categories().index(one.category) for one in shown], classes=categories(), readings=(reading(),),
        traits=Traits(base="model-vs-human", scenario=stimuli, cut=224, expected=expected, facts=facts),
    )  # fmt: skip


@functools.cache
def categories() -> tuple[str, ...]:
    """The sixteen categories, sorted."""
    return tuple(name for name, *_ in _table("categories"))


@functools.cache
def reading() -> Reading:
    """The reading of a thousand logits as sixteen categories: each has the mean softmax probability of its classes.

    The authors' table of categories lists WordNet ids; the 207 of them that are among the thousand classes ship with robustvit.
    """
    index = class_indices()
    groups = tuple(tuple(index[wnid] for wnid in members) for _, *members in _table("categories"))
    return Reading("sixteen", len(groups), outputs=len(index), groups=groups, pool="mean")


@functools.cache
def stimulus_sets() -> dict[str, StimulusSet]:
    """The seventeen sets by name. In the table, conditions that the authors' averages leave out are in brackets."""
    return {
        name: StimulusSet(int(expected), {one.strip("()"): one[0] != "(" for one in conditions})
        for name, expected, *conditions in _table("sets")
    }


def _table(name: str) -> list[list[str]]:
    text = (resources.files("robustvit.data") / f"model_vs_human_{name}.txt").read_text(encoding="ascii")
    return [line.split() for line in text.splitlines()]


def _place(root: Path, stimuli: str) -> Path:
    """The folder that holds the sets."""
    here = first_folder((root / stimuli, root / "datasets" / stimuli))
    if here is not None:
        return here.parent
    present = [name for place in (root, root / "datasets") if place.is_dir() for name in subfolders(place)]
    missing = [name for name in stimulus_sets() if name not in present]
    held = f"{len(missing)} of the {len(stimulus_sets())} sets are missing: {few(missing)}"
    if len(missing) == len(stimulus_sets()):
        held = f"it holds {some_subfolders(root)}"
    raise DataMissing(f"data 'model-vs-human': neither {root} nor its datasets/ holds {stimuli}/; {held}.")


def _image_folder(place: Path, stimuli: str) -> Path:
    """The folder that holds the images of a set."""
    inner = place / stimuli if stimuli in _IN_FOLDERS else place / stimuli / "dnn"
    if not inner.is_dir():
        raise DataMissing(
            f"data 'model-vs-human': {place / stimuli} holds {some_subfolders(place / stimuli)}; the images of {stimuli} "
            "lie in dnn/session-1/."
        )
    return inner


def _stimuli(place: Path, stimuli: str, found: Listing) -> list[Stimulus]:
    """The parsed names of the images, checked."""
    parse = parse_in_folder if stimuli in _IN_FOLDERS else parse_session
    parsed = [parse(file.path) for file in found.files]
    where = f"data 'model-vs-human': in {place / stimuli}"
    shown = [one for one in parsed if one is not None]
    unknown = [file.path for file, one in zip(found.files, parsed, strict=True) if one is None]
    if unknown:
        raise DataUnreadable(f"{where}, {len(unknown)} of {len(parsed)} images are not named as the release names them: {few(unknown)}.")
    _refuse(where, "categories", [one.category for one in shown], categories())
    if stimuli == "cue-conflict":
        _refuse(where, "textures", [one.texture for one in shown], categories())
    if stimuli in _IN_FOLDERS:
        _refuse_displaced(where, shown)
    elif stimulus_sets()[stimuli].conditions:
        _refuse(where, "conditions", [one.condition for one in shown], tuple(stimulus_sets()[stimuli].conditions))
    return shown


def _refuse(where: str, what: str, found: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in found if name not in known]
    if unknown:
        names = sorted(set(unknown))
        raise DataUnreadable(
            f"{where}, {len(unknown)} of {len(found)} images have {what} that are none of the {len(known)}: {few(names)}."
            f"{nearest(names[0], known)} They are {', '.join(known)}."
        )


def _refuse_displaced(where: str, shown: Sequence[Stimulus]) -> None:
    displaced = [f"{one.image} in {one.category}/" for one in shown if one.shape != one.category]
    if displaced:
        raise DataUnreadable(f"{where}, {len(displaced)} of {len(shown)} images lie in the folder of another category: {few(displaced)}.")


def _facts(place: Path, stimuli: str, shown: Sequence[Stimulus]) -> dict[str, Any]:
    known = stimulus_sets()[stimuli].conditions
    conditions = [plain_condition(one.condition) if known else "" for one in shown]
    facts: dict[str, Any] = {"fact_condition": conditions, "fact_counted": [int(known.get(name, True)) for name in conditions]}
    if stimuli == "cue-conflict":
        facts["fact_texture"] = [categories().index(one.texture) for one in shown]
    humans = responses(place, stimuli, shown, conditions, categories())
    return facts if humans is None else {**facts, "fact_humans": humans}
