"""Two processes train in the loops of others what one trains in the plain loop, also where a step is computed twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from plain_training import DEFENSES, distance, plain_loop, vit
from torch import nn

pytestmark = pytest.mark.frameworks

SCRIPT = """
import os, sys
import torch
from plain_training import DEFENSES, MEAN, STD, normalised, samples, sgd, vit
import robustvit as rv

loop, name, out = sys.argv[1:]
rank, model, defense = int(os.environ["RANK"]), vit(), DEFENSES[name]()


def share(step):
    pixels, labels, ids = samples(step)
    return normalised(pixels)[rank::2], labels[rank::2], list(ids[rank::2])


if loop == "plain":
    torch.distributed.init_process_group("gloo")
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = sgd(model)
    criterion = rv.DefenseLoss(defense, wrapped, mean=MEAN, std=STD, optimizer=optimizer, seed=7)
    for step in range(2):
        loss = criterion(*share(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
elif loop == "lightning":
    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader
    from robustvit.training.adapters.lightning import LightningDefense

    class Lit(LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, batch_idx):
            raise AssertionError

        def configure_optimizers(self):
            return sgd(self.model)

    trainer = Trainer(max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", use_distributed_sampler=False, logger=False,
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=out,
                      callbacks=[LightningDefense(defense, mean=MEAN, std=STD, seed=7)])
    trainer.fit(Lit(), DataLoader([share(step) for step in range(2)], batch_size=None))
elif loop == "timm":
    from robustvit.training.adapters.timm import DefenseTask
    torch.distributed.init_process_group("gloo")
    task = DefenseTask(model, defense, mean=MEAN, std=STD, seed=7, verbose=False)
    optimizer = sgd(task.get_trainable_module())
    task.attach(optimizer)
    task.prepare_distributed()
    for step in range(2):
        images, labels, ids = share(step)
        task.steps.loss, whole = (lambda images, labels, own=task.steps.loss: own(images, labels, ids)), task.steps.loss
        task(images, labels)["loss"].backward()
        task.steps.loss = whole
        optimizer.step()
        optimizer.zero_grad()
else:
    from transformers import TrainingArguments
    from robustvit.training.adapters.huggingface import DefenseTrainer

    class Ordered(DefenseTrainer):
        def get_train_dataloader(self):
            return [dict(zip(("pixel_values", "labels", "ids"), share(step))) for step in range(2)]

        def create_optimizer(self, *given):
            self.optimizer = self.optimizer or sgd(self.model)
            return super().create_optimizer(*given)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, pixel_values, labels=None):
            return self.inner(pixel_values)

    arguments = TrainingArguments(output_dir=out, max_steps=2, use_cpu=True, ddp_backend="gloo", seed=7, report_to=[], save_strategy="no",
                                  lr_scheduler_type="constant", max_grad_norm=0.0, disable_tqdm=True, remove_unused_columns=False)
    Ordered(Net(), arguments, defense=defense, mean=MEAN, std=STD, train_dataset=[0] * 12).train()
torch.save(model.state_dict(), f"{out}/{rank}.pt")
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
"""
PACKAGES = {"plain": "torch", "lightning": "lightning", "huggingface": "accelerate", "timm": "timm.task"}


def trained(loop: str, name: str, folder: Path) -> list[nn.Module]:
    """The model of each of two processes."""
    (folder / "script.py").write_text(SCRIPT)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "script.py", loop, name, str(folder)]
    tests = str(Path(__file__).resolve().parents[2])
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment["PYTHONPATH"] = os.pathsep.join([tests, environment.get("PYTHONPATH", "")])
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    models = [vit(), vit()]
    for rank, model in enumerate(models):
        model.load_state_dict(torch.load(folder / f"{rank}.pt"))
    return models


@pytest.mark.parametrize(("loop", "name"), [(loop, "trades+awp") for loop in PACKAGES] + [("plain", "ablations")])
def test_two_processes_train_what_one_trains(loop: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[loop])
    alone = vit()
    plain_loop(alone, DEFENSES[name](), 2)
    first, second = trained(loop, name, tmp_path)
    assert distance(first, second) == 0
    assert distance(first, alone) < 1e-5 < distance(alone, vit())
