"""AutoAttack: an ensemble of parameter-free attacks; each attacks the samples that are still robust after those before it."""

from __future__ import annotations

from typing import Any, Literal

from robustvit.attacks.apgd import CITATION
from robustvit.errors import BadParameter
from robustvit.primitives.limits import Radius
from robustvit.primitives.norms import Norm
from robustvit.spec.registry import attack


@attack(
    chain=True,
    severity="eps",
    family="ensemble",
    source="Croce and Hein 2020; in l1 Croce and Hein 2021",
    url="https://arxiv.org/abs/2003.01690",
    licence="MIT (reference code); a published definition, no code is used",
    citation=CITATION,
    rules="standard: APGD on the cross-entropy, targeted APGD, targeted FAB, Square with 5,000 queries. plus: five restarts of APGD on "
    "both losses and of FAB, Square, targeted APGD and FAB (not defined in l1 by its authors). rand, for models with randomness of their "
    "own: APGD on both losses with 20 gradients averaged. fast: the first two of standard, an upper bound of its accuracy.",
)
def autoattack(
    *, eps: Radius, norm: Norm = "linf", version: Literal["standard", "plus", "rand", "fast"] = "standard"
) -> list[dict[str, Any]]:
    """AutoAttack (Croce and Hein 2020): a sample is robust if every attack of the version fails on it.

    eps: radius in pixel units; write 4/255. Attacks that are cheap and succeed often come first. A run that is stopped between two attacks
    gives an upper bound of robust accuracy and resumes where it stopped. In l1 targeted APGD has five target classes and APGD five
    restarts, as the authors set them. `fast` is robustvit's, not the paper's. Raises BadParameter for plus in l1, which the authors do not
    define.
    """
    ball = {"eps": eps, "norm": norm}
    if version == "rand":
        return [{"apgd_ce": {**ball, "eot": 20}}, {"apgd_dlr": {**ball, "eot": 20}}]
    if version == "plus" and norm == "l1":
        raise BadParameter("autoattack: version plus is defined in linf and l2; in l1 take standard.")
    if version == "plus":
        return [
            {"apgd_ce": {**ball, "restarts": 5}}, {"apgd_dlr": {**ball, "restarts": 5}}, {"fab": {**ball, "restarts": 5}}, {"square": ball},
            {"apgd_t": ball}, {"fab_t": ball},
        ]  # fmt: skip
    first = {"apgd_ce": {**ball, "restarts": 5 if norm == "l1" else 1}}
    second = {"apgd_t": {**ball, "targets": 5 if norm == "l1" else 9}}
    return [first, second] if version == "fast" else [first, second, {"fab_t": ball}, {"square": ball}]
