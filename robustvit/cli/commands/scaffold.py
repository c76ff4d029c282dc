"""`robustvit new`: a working plug-in or suite with a test that holds it to its contract."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template
from typing import NamedTuple

from robustvit.errors import BadParameter, UnknownName, nearest
from robustvit.spec import registry


class Written(NamedTuple):
    """The files made, and what to do with them."""

    files: list[Path]
    next_step: str


def write(kind: str, name: str, folder: Path = Path()) -> Written:
    """Writes `NAME.py` and `test_NAME.py` (for a suite: `NAME.yaml`) into a folder; nothing that exists is overwritten.

    Raises UnknownName for a kind without a scaffold, BadParameter for a name that Python or a suite cannot use or a file that exists.
    """
    if kind not in _TEMPLATES:
        raise UnknownName(f"no scaffold for '{kind}'.{nearest(kind, _TEMPLATES)} There is one for {', '.join(_TEMPLATES)}.")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise BadParameter(f"'{name}' cannot be used as a name; take lower-case letters, digits and underscores, a letter first.")
    if kind != "suite" and name in registry.entries(kind):
        raise BadParameter(f"the name is taken: a {kind} called '{name}' exists already; take another name.")
    pages = {folder / Template(path).substitute(name=name): text for path, text in _TEMPLATES[kind].items()}
    for path in pages:
        if path.exists():
            raise BadParameter(f"{path} exists already; nothing was written.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in pages.items():
        path.write_text(Template(text).substitute(name=name), encoding="utf-8")
    return Written(list(pages), Template(_NEXT[kind]).substitute(name=name))


_CORRUPTION = '''"""A corruption: $name."""

from torch import Tensor

import robustvit as rv
from robustvit.primitives.batch import Severity


@rv.corruption(severity="severity", family="other", source="your paper, year")
def $name(images: Tensor, draws: rv.Draws, *, severity: Severity) -> Tensor:
    """One sentence that says what becomes of the image.

    images: (N, 3, H, W) float in [0, 1]; returns the same shape and range. severity: 1 (mild) to 5. Randomness only from `draws`.
    """
    strength = (0.02, 0.04, 0.08, 0.16, 0.32)[severity - 1]
    return (images + strength * draws.normal(*images.shape[1:])).clamp(0.0, 1.0)
'''

_ATTACK = '''"""An attack: $name."""

from typing import Annotated

from annotated_types import Gt
from torch import Tensor

import robustvit as rv
from robustvit.primitives.norms import Norm, project, random_start


@rv.attack(severity="eps", family="black-box", source="your paper, year")
def $name(
    model: rv.Classifier, images: Tensor, labels: Tensor, draws: rv.Draws, *, eps: Annotated[float, Gt(0)], norm: Norm = "linf"
) -> Tensor:
    """One sentence that says how it looks for a wrong answer. As it stands: one random point of the ball.

    images: (N, 3, H, W) float in [0, 1]; returns images in [0, 1] within eps (pixel units, 4/255) of them. Randomness only from `draws`.
    """
    return (images + project(random_start(images, eps, norm, draws), eps, norm)).clamp(0.0, 1.0)
'''

_METRIC = '''"""A metric: $name."""

import numpy as np
import pandas as pd

import robustvit as rv


@rv.metric(unit="%", higher_is_better=True, source="your paper, year")
def $name(records: pd.DataFrame) -> np.ndarray:
    """Share of samples whose label is among the two best answers. Denominator: every sample of the cell.

    Returns one value per sample, here 0 or 1; the metric is their mean, shown in per cent, and its interval follows.
    """
    return (records["rank"] <= 2).to_numpy().astype(float)
'''

_CERTIFICATE = '''"""A certificate: $name."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

import robustvit as rv
from robustvit.primitives.votes import Votes


@rv.certificate(family="other", source="your paper, year")
def $name(model: rv.Classifier, images: Tensor, draws: rv.Draws, *, looks: int = 5) -> Votes:
    """One sentence that says against what the answers hold.

    images: (N, 3, H, W) float in [0, 1]. Returns how often each class was chosen, (N, K) whole numbers; `columns` of Votes may tell pred (-1 abstains),
    radius, level, or measurements of your own as value_NAME. The labels are not known here. Randomness only from `draws`.
    """
    with torch.no_grad():
        answers = torch.stack([model(images.roll(look, dims=3)).argmax(dim=1) for look in range(looks)])
    return Votes(one_hot(answers, model.outputs).sum(dim=0))
'''

_SUITE = """name: $name
title: What this suite asks, in one line
version: 1
data: digits
rules: |
  How the numbers are made, and what they may be compared with.
paper: ""
url: ""
licence: ""
citation: ""
scenarios:
  - clean
  - gaussian_noise: {severity: [1, 3, 5]}
  - pgd: {eps: [1/255, 2/255], steps: 10}
metrics:
  - top1
  - robust_accuracy
"""

_TEST_CORRUPTION = '''"""The contract of a corruption, for $name."""

import torch

import robustvit as rv
import $name as plugin

IMAGES = rv.Draws(0, "test", [str(i) for i in range(4)]).uniform(3, 32, 32)


def corrupted(severity: int, rows: slice = slice(None)) -> torch.Tensor:
    ids = [str(i) for i in range(4)][rows]
    return rv.perturb(None, IMAGES[rows], None, "$name:$name", severity=severity, ids=ids)


def test_it_keeps_shape_and_range() -> None:
    for severity in (1, 3, 5):
        images = corrupted(severity)
        assert images.shape == IMAGES.shape
        assert 0.0 <= float(images.min()) <= float(images.max()) <= 1.0


def test_a_row_depends_on_its_own_sample_alone() -> None:
    assert torch.equal(corrupted(3)[2:], corrupted(3, slice(2, 4)))


def test_it_does_something_and_more_at_higher_severity() -> None:
    mild, strong = ((corrupted(severity) - IMAGES).abs().mean() for severity in (1, 5))
    assert 0 < float(mild) < float(strong)


def test_it_leaves_its_argument_alone() -> None:
    before = IMAGES.clone()
    plugin.$name(IMAGES, rv.Draws(0, "x", ["0", "1", "2", "3"]), severity=5)
    assert torch.equal(before, IMAGES)
'''

_TEST_ATTACK = '''"""The contract of an attack, for $name."""

import torch

import robustvit as rv
from robustvit.primitives.pixels import pixels

EPS = 2 / 255


def batch() -> tuple[rv.Classifier, torch.Tensor, torch.Tensor]:
    model, data = rv.load_model("demo"), rv.load_data("digits")
    samples = [data[i] for i in range(8)]
    images = torch.cat([pixels(sample.image[None]) for sample in samples])
    return model, images, torch.tensor([sample.label for sample in samples])


def test_it_stays_in_range_and_budget() -> None:
    model, images, labels = batch()
    crafted = rv.perturb(model, images, labels, "$name:$name", eps=EPS)
    assert crafted.shape == images.shape
    assert 0.0 <= float(crafted.min()) <= float(crafted.max()) <= 1.0
    assert float((crafted - images).abs().max()) <= EPS + 1e-6


def test_the_same_seed_gives_the_same_images() -> None:
    model, images, labels = batch()
    first, second = (rv.perturb(model, images, labels, "$name:$name", eps=EPS, seed=3) for _ in range(2))
    assert torch.equal(first, second)


def test_it_leaves_the_model_alone() -> None:
    model, images, labels = batch()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rv.perturb(model, images, labels, "$name:$name", eps=EPS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
'''

_TEST_CERTIFICATE = '''"""The contract of a certificate, for $name."""

import torch

import robustvit as rv
import $name as plugin
from robustvit.primitives.pixels import pixels


def votes(rows: slice = slice(None)) -> torch.Tensor:
    data = rv.load_data("digits")
    samples = [data[i] for i in range(6)][rows]
    images = torch.cat([pixels(sample.image[None]) for sample in samples])
    return plugin.$name(rv.load_model("demo"), images, rv.Draws(0, "test", [sample.id for sample in samples])).counts


def test_it_counts_votes_for_every_class() -> None:
    counts = votes()
    assert counts.shape == (6, 10)
    assert int(counts.min()) >= 0
    assert len(set(counts.sum(dim=1).tolist())) == 1


def test_a_row_depends_on_its_own_sample_alone() -> None:
    assert torch.equal(votes()[2:4], votes(slice(2, 4)))


def test_the_same_draws_give_the_same_votes() -> None:
    assert torch.equal(votes(), votes())
'''

_TEST_METRIC = '''"""The contract of a metric, for $name."""

import numpy as np
import pandas as pd

import $name as plugin

RECORDS = pd.DataFrame({"label": [0, 1, 2, 3], "pred": [0, 1, 2, 0], "rank": [1, 1, 1, 3], "confidence": [0.9, 0.8, 0.7, 0.6]})


def test_a_hand_computed_table() -> None:
    assert np.isclose(np.mean(plugin.$name(RECORDS)), 0.75)


def test_the_order_of_rows_does_not_matter() -> None:
    assert np.isclose(np.mean(plugin.$name(RECORDS)), np.mean(plugin.$name(RECORDS.iloc[::-1])))
'''

_TEMPLATES = {
    "attack": {"$name.py": _ATTACK, "test_$name.py": _TEST_ATTACK},
    "certificate": {"$name.py": _CERTIFICATE, "test_$name.py": _TEST_CERTIFICATE},
    "corruption": {"$name.py": _CORRUPTION, "test_$name.py": _TEST_CORRUPTION},
    "metric": {"$name.py": _METRIC, "test_$name.py": _TEST_METRIC},
    "suite": {"$name.yaml": _SUITE},
}

_IN_A_SUITE = "Test it: pytest test_$name.py. Use it from a suite as `- $name:$name: {…}`, or announce its module in the entry-point group `robustvit`."
_NEXT = {
    "attack": _IN_A_SUITE,
    "certificate": _IN_A_SUITE,
    "corruption": _IN_A_SUITE,
    "metric": "Test it: pytest test_$name.py. Use it in a suite's metrics as `- $name:$name`, or: robustvit leaderboard --metric $name:$name",
    "suite": "Check it: robustvit check $name.yaml. Run it: robustvit run --suite $name.yaml",
}
