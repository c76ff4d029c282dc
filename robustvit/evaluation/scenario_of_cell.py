"""The scenario of a cell as it is run: on its own, stored as a file would be, or with images that are crafted for other models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from robustvit.errors import StoreDamaged
from robustvit.primitives.adversarial_images import AdversarialImages
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels, to_uint8
from robustvit.primitives.scenario import Outcome, Scenario, scenario, scenario_kind, stream
from robustvit.primitives.scenarios.attack import AttackScenario
from robustvit.spec import registry
from robustvit.spec.cell import Cell


class ScenarioOfCell:
    """The outcome of a cell's scenario on a batch.

    does: the scenario. crafted: the images of a cell that are crafted on another model. reads: whether the model's outputs are the classes
    of the data; a surrogate's need not be.
    """

    def __init__(self, cell: Cell, does: Scenario, crafted: AdversarialImages | None, *, reads: bool) -> None:
        self.cell, self.does, self.crafted, self.reads = cell, does, crafted, reads
        stored = cell.storage is not None and registry.scenario_entry(cell.scenario.name).stored
        self.storage = scenario(registry.lookup("corruption", cell.storage.name), cell.storage) if stored and cell.storage else None

    def __call__(self, host: Classifier, batch: Batch, draws: Draws, model: Classifier) -> Outcome:
        """host: the model as the scenario meets it. model: as it predicts."""
        if isinstance(self.does, AttackScenario) and self.crafted is not None:
            return self._judged(self.does, host, batch, draws, self.crafted)
        if isinstance(self.does, AttackScenario) and self.cell.crafts:
            return self.does.craft_all(
                host, batch, draws, read=self.reads, predicted=bool(self.cell.surrogate and self.cell.surrogate.labels)
            )
        outcome = self.does(host, batch, draws)
        return outcome if self.storage is None else self._stored(outcome, batch, model)

    def _judged(self, does: AttackScenario, host: Classifier, batch: Batch, draws: Draws, crafted: AdversarialImages) -> Outcome:
        kept = crafted.images(batch.ids)
        if not np.array_equal(kept.clean, to_uint8(batch.images)):
            raise StoreDamaged(
                f"the images that were crafted for '{self.cell}' are of other pixels than those of now: the data has changed. Give a new "
                "place with --store."
            )
        outcome = does.judge(host, batch, draws, torch.from_numpy(kept.adversarial).to(batch.images))
        if self.cell.surrogate is None or not self.cell.surrogate.stored:
            return outcome
        assert outcome.images is not None
        return replace(outcome, images=pixels(to_uint8(outcome.images), batch.images.device))

    def _stored(self, outcome: Outcome, batch: Batch, model: Classifier) -> Outcome:
        """What a corruption made after the storage of its cell: a corruption itself, such as JPEG."""
        assert outcome.images is not None
        assert self.cell.storage is not None
        assert self.storage is not None
        draws = Draws(self.cell.seed, stream(self.cell.storage), batch.ids, model.device)
        return replace(outcome, images=self.storage(model, batch.with_images(outcome.images), draws).images)


def in_forward_mode(cell: Cell) -> bool:
    """Whether the predictions of a cell are made in the model's forward mode: those of a model without transforms, which nothing attacks.

    Attacks query the model with gradients and in smaller tiles, and are judged in float32.
    """
    kind = scenario_kind(registry.scenario_entry(cell.scenario.name))
    return kind.predicts and not kind.in_float32 and not cell.transforms and cell.view.shown is None
