"""How robust is a vision transformer?

    import robustvit as rv

    model = rv.load_model("vit_b16")                                             # pixels in [0, 1] to logits
    data = rv.load_data("digits")                                                # Sample(id, image, label)
    x_adv = rv.perturb(model, images, labels, "pgd", eps="4/255", seed=0)        # any corruption or attack by name
    rv.run(rv.load_suite("imagenet-c"), models=["demo"], data="digits", store="results")
    board = rv.leaderboard("results")                                            # the tidy DataFrame
    rv.score(rv.Classifier(module, size=32), "digits", "pgd", eps="4/255")       # one number with its interval
    rv.explain(model, images, "legrad")                                          # how much each patch counts

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from robustvit.version import __version__

_HOMES = {
    "Batch": "primitives.batch",
    "BudgetExceeded": "errors",
    "Card": "primitives.model_card",
    "Cell": "spec.cell",
    "Classifier": "primitives.classifier",
    "Clustered": "statistics.estimates",
    "Crafted": "primitives.attack_search",
    "Data": "primitives.batch",
    "DataMissing": "errors",
    "Defense": "primitives.defense",
    "DefenseLoss": "training.adapters.criterion",
    "Draws": "primitives.draws",
    "Monitor": "training.monitor",
    "Norm": "primitives.norms",
    "OnPixels": "primitives.training.on_pixels",
    "Reading": "primitives.reading",
    "Records": "records.records",
    "RobustvitError": "errors",
    "Sample": "primitives.batch",
    "Score": "cli.commands.score",
    "Search": "primitives.attack_search",
    "Settings": "evaluation.plan",
    "Severity": "primitives.batch",
    "Spec": "spec.spec",
    "Store": "records.store",
    "Suite": "spec.suite",
    "Traits": "primitives.batch",
    "View": "spec.view",
    "Votes": "primitives.votes",
    "Weighted": "statistics.estimates",
    "analysis": "spec.registry",
    "as_classifier": "training.adapters.monitoring",
    "attack": "spec.registry",
    "certificate": "spec.registry",
    "compare": "results.comparison",
    "compose": "primitives.defense",
    "corruption": "spec.registry",
    "dataset": "spec.registry",
    "defense": "spec.registry",
    "explain": "evaluation.explain",
    "leaderboard": "results.leaderboard",
    "load_data": "evaluation.loading",
    "load_defense": "training.defending",
    "load_kept": "evaluation.images.kept_images",
    "load_model": "evaluation.loading",
    "load_records": "records.store",
    "load_suite": "spec.suite_file",
    "metric": "spec.registry",
    "model": "spec.registry",
    "perturb": "evaluation.perturb",
    "pixels": "primitives.pixels",
    "ranks": "results.ranks.rank_tables",
    "run": "evaluation.run",
    "save_checkpoint": "training.saving",
    "score": "cli.commands.score",
    "share_changed": "primitives.surgery.backbones",
    "status": "records.status.store_status",
    "train": "training.loop",
    "transfer_matrix": "results.transfer_matrix",
    "transform": "spec.registry",
    "transformed": "evaluation.pipelines.transformed",
    "write_report": "report.page",
}

__all__ = [
    "Batch",
    "BudgetExceeded",
    "Card",
    "Cell",
    "Classifier",
    "Clustered",
    "Crafted",
    "Data",
    "DataMissing",
    "Defense",
    "DefenseLoss",
    "Draws",
    "Monitor",
    "Norm",
    "OnPixels",
    "Reading",
    "Records",
    "RobustvitError",
    "Sample",
    "Score",
    "Search",
    "Settings",
    "Severity",
    "Spec",
    "Store",
    "Suite",
    "Traits",
    "View",
    "Votes",
    "Weighted",
    "__version__",
    "analysis",
    "as_classifier",
    "attack",
    "certificate",
    "compare",
    "compose",
    "corruption",
    "dataset",
    "defense",
    "explain",
    "leaderboard",
    "load_data",
    "load_defense",
    "load_kept",
    "load_model",
    "load_records",
    "load_suite",
    "metric",
    "model",
    "perturb",
    "pixels",
    "ranks",
    "run",
    "save_checkpoint",
    "score",
    "share_changed",
    "status",
    "train",
    "transfer_matrix",
    "transform",
    "transformed",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'robustvit' has no attribute '{name}'")
    from robustvit.errors import whole_install_needed

    with whole_install_needed(f"robustvit.{name}"):
        value = getattr(importlib.import_module(f"robustvit.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


if TYPE_CHECKING:
    from robustvit.cli.commands.score import Score, score
    from robustvit.errors import BudgetExceeded, DataMissing, RobustvitError
    from robustvit.evaluation.explain import explain
    from robustvit.evaluation.images.kept_images import load_kept
    from robustvit.evaluation.loading import load_data, load_model
    from robustvit.evaluation.perturb import perturb
    from robustvit.evaluation.pipelines.transformed import transformed
    from robustvit.evaluation.run import run
    from robustvit.evaluation.settings import Settings
    from robustvit.primitives.attack_search import Crafted, Search
    from robustvit.primitives.batch import Batch, Data, Sample, Severity, Traits
    from robustvit.primitives.classifier import Classifier
    from robustvit.primitives.defense import Defense, compose
    from robustvit.primitives.draws import Draws
    from robustvit.primitives.model_card import Card
    from robustvit.primitives.norms import Norm
    from robustvit.primitives.pixels import pixels
    from robustvit.primitives.reading import Reading
    from robustvit.primitives.surgery.backbones import share_changed
    from robustvit.primitives.training.on_pixels import OnPixels
    from robustvit.primitives.votes import Votes
    from robustvit.records.records import Records
    from robustvit.records.status.store_status import status
    from robustvit.records.store import Store, load_records
    from robustvit.report.page import write_report
    from robustvit.results.comparison import compare
    from robustvit.results.leaderboard import leaderboard
    from robustvit.results.ranks.rank_tables import ranks
    from robustvit.results.transfer_matrix import transfer_matrix
    from robustvit.spec.cell import Cell
    from robustvit.spec.registry import analysis, attack, certificate, corruption, dataset, defense, metric, model, transform
    from robustvit.spec.spec import Spec
    from robustvit.spec.suite import Suite
    from robustvit.spec.suite_file import load_suite
    from robustvit.spec.view import View
    from robustvit.statistics.estimates import Clustered, Weighted
    from robustvit.training.adapters.criterion import DefenseLoss
    from robustvit.training.adapters.monitoring import as_classifier
    from robustvit.training.defending import load_defense
    from robustvit.training.loop import train
    from robustvit.training.monitor import Monitor
    from robustvit.training.saving import save_checkpoint
