"""What the names of model-vs-human's pictures tell, in the sets and in the tables of people's answers alike."""

from __future__ import annotations

import re
from typing import NamedTuple

_CUES = re.compile(r"(?P<shape>[a-z]+)\d*(-(?P<texture>[a-z]+)\d*)?")


class Seen(NamedTuple):
    """image: the name that pictures and answers are joined by; category: what is right. condition, shape, texture: "" where there is none."""

    image: str
    category: str
    condition: str = ""
    shape: str = ""
    texture: str = ""


def in_session(path: str) -> Seen | None:
    """`…/0001_cl_dnn_bw_oven_40_n04111531_14126.png`, with `s01` for `dnn` where a person saw it; None for another name.

    The number of the trial and who saw it are no part of the image's name.
    """
    parts = path.rpartition("/")[2].rpartition(".")[0].split("_")
    if len(parts) not in (7, 8) or not parts[0].isdecimal():
        return None
    return Seen("_".join(parts[6:]), parts[4], plain_condition(parts[3]))


def in_folder(path: str) -> Seen | None:
    """`airplane/airplane1-bicycle2.png` or `airplane/airplane1.png`; None for another name, or one without a folder."""
    category, _, file = path.rpartition("/")
    stem = file.rpartition(".")[0]
    cues = _CUES.fullmatch(stem)
    return Seen(stem, category, shape=cues["shape"], texture=cues["texture"] or "") if category and cues else None


def plain_condition(text: str) -> str:
    """A condition as the list writes it: 0.90 and 0.9, 00 and 0, True and true are each one condition."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text.lower()
