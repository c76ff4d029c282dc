# needs: lightning
"""A LightningModule trained with TRADES and sharpness-aware steps, and robust numbers in its logs: two callbacks."""

import lightning as L
import torch
from torch.utils.data import DataLoader

import robustvit as rv
from robustvit.primitives.defense import compose
from robustvit.training.adapters.lightning import LightningDefense, LightningMonitor

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
start = rv.load_model("demo")


class Classifier(L.LightningModule):
    """A module as you have it: nothing in it is about defenses."""

    def __init__(self) -> None:
        super().__init__()
        self.model = start.model.requires_grad_(True).train()

    def training_step(self, batch, batch_idx):
        """The loss without a defense."""
        images, labels, _ = batch
        return torch.nn.functional.cross_entropy(self.model(images), labels)

    def configure_optimizers(self):
        """The optimizer, whose steps the defense takes part in."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


data = rv.load_data("digits?split=train")
rows = [((start.preprocess(data[row].image) - 0.5) / 0.5, data[row].label, data[row].id) for row in range(256)]
defense = compose([rv.load_defense("trades", eps="4/255", steps=2), rv.load_defense("sam", rho=0.05)])
monitor = rv.Monitor("quick", "digits?part=calibration", limit=24, store="watched")
callbacks = [
    LightningDefense(defense, mean=MEAN, std=STD),
    LightningMonitor(monitor, view=start.view, mean=MEAN, std=STD),
]
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = L.Trainer(max_epochs=2, accelerator="cpu", callbacks=callbacks, **quiet)
trainer.fit(Classifier(), DataLoader(rows, batch_size=64, shuffle=True))
print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
