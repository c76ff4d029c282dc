"""What another process does with a task. It imports this module by its name, which a test module does not have there."""

from __future__ import annotations

import pickle
from pathlib import Path

import robustvit as rv
from robustvit.evaluation import plan as plans
from robustvit.evaluation.requested import make
from robustvit.evaluation.settings import Settings
from robustvit.evaluation.worker import Worker
from robustvit.records.store import Store

LIMIT = 8


def planned() -> plans.Plan:
    """Suite quick on a few digits."""
    return make(rv.load_suite("quick"), ["demo"], "digits", Settings(limit=LIMIT))


def do_task(store: Path, parcel: bytes) -> bytes:
    """The pickled outcome of a pickled task: this process has its own plan, and the store's place."""
    return pickle.dumps(Worker(planned(), Store(store), "there").do(pickle.loads(parcel)))
