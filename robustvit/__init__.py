"""How robust is a vision transformer?

    import robustvit as rv

    model = rv.load_model("vit_b16")                                             # pixels in [0, 1] to logits
    data = rv.load_data("digits")                                                # Sample(id, image, label)
    x_adv = rv.perturb(model, images, labels, "pgd", eps="4/255", seed=0)        # any corruption or attack by name
    rv.run(rv.load_suite("imagenet-c"), models=["demo"], data="digits", store="results")
    board = rv.leaderboard("results")                                            # the tidy DataFrame

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Batch": "batch", "BudgetExceeded": "errors", "Cell": "suite", "Classifier": "classifier", "Data": "batch", "Draws": "draws",
    "Records": "records", "RobustvitError": "errors", "Sample": "batch", "Settings": "plan", "Spec": "spec", "Store": "store",
    "Suite": "suite", "View": "view", "analysis": "registry", "attack": "registry", "certificate": "registry", "compare": "comparison",
    "corruption": "registry", "defense": "registry", "leaderboard": "board", "load_data": "loading", "load_kept": "kept", "load_model": "loading",
    "load_records": "store", "load_suite": "suite_file", "metric": "registry", "perturb": "perturbation", "run": "runner", "train": "trainer",
    "transform": "registry", "write_report": "report.page",
}  # fmt: skip

__all__ = [
    "Batch",
    "BudgetExceeded",
    "Cell",
    "Classifier",
    "Data",
    "Draws",
    "Records",
    "RobustvitError",
    "Sample",
    "Settings",
    "Spec",
    "Store",
    "Suite",
    "View",
    "analysis",
    "attack",
    "certificate",
    "compare",
    "corruption",
    "defense",
    "leaderboard",
    "load_data",
    "load_kept",
    "load_model",
    "load_records",
    "load_suite",
    "metric",
    "perturb",
    "run",
    "train",
    "transform",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'robustvit' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"robustvit.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


if TYPE_CHECKING:
    from robustvit.batch import Batch, Data, Sample
    from robustvit.board import leaderboard
    from robustvit.classifier import Classifier
    from robustvit.comparison import compare
    from robustvit.draws import Draws
    from robustvit.errors import BudgetExceeded, RobustvitError
    from robustvit.kept import load_kept
    from robustvit.loading import load_data, load_model
    from robustvit.perturbation import perturb
    from robustvit.plan import Settings
    from robustvit.records import Records
    from robustvit.registry import analysis, attack, certificate, corruption, defense, metric, transform
    from robustvit.report.page import write_report
    from robustvit.runner import run
    from robustvit.spec import Spec
    from robustvit.store import Store, load_records
    from robustvit.suite import Cell, Suite
    from robustvit.suite_file import load_suite
    from robustvit.trainer import train
    from robustvit.view import View
