"""Parses the file names of model-vs-human: category, condition and cues, in the sets and in the tables of responses."""

from __future__ import annotations

import re
from typing import NamedTuple

_CUES = re.compile(r"(?P<shape>[a-z]+)\d*(-(?P<texture>[a-z]+)\d*)?")


class Stimulus(NamedTuple):
    """image: the name that images and responses are joined by; category: the label. condition, shape, texture: "" where there is none."""

    image: str
    category: str
    condition: str = ""
    shape: str = ""
    texture: str = ""


def parse_session(path: str) -> Stimulus | None:
    """Parses `…/0001_cl_dnn_bw_oven_40_n04111531_14126.png`, with `s01` for `dnn` where a person saw it; None for another name.

    The number of the trial and of the observer are no part of the image's name.
    """
    parts = path.rpartition("/")[2].rpartition(".")[0].split("_")
    if len(parts) not in (7, 8) or not parts[0].isdecimal():
        return None
    return Stimulus("_".join(parts[6:]), parts[4], plain_condition(parts[3]))


def parse_in_folder(path: str) -> Stimulus | None:
    """Parses `airplane/airplane1-bicycle2.png` or `airplane/airplane1.png`; None for another name, or one without a folder."""
    category, _, file = path.rpartition("/")
    stem = file.rpartition(".")[0]
    cues = _CUES.fullmatch(stem)
    return Stimulus(stem, category, shape=cues["shape"], texture=cues["texture"] or "") if category and cues else None


def plain_condition(text: str) -> str:
    """The canonical spelling of a condition: 0.90 and 0.9, 00 and 0, True and true are each one condition."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text.lower()
