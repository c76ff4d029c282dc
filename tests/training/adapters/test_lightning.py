"""Defenses in PyTorch Lightning, against the plain loop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_training import DEFENSES, MEAN, STD, N, distance, normalised, plain_loop, samples, sgd, vit
from torch import Tensor, nn
from torch.utils.data import DataLoader

import robustvit as rv
from robustvit.errors import BadParameter, MissingExtra, PixelRange
from robustvit.primitives.defense import Defense

pytestmark = pytest.mark.frameworks
lightning = pytest.importorskip("lightning.pytorch")


class Lit(lightning.LightningModule):
    """What a user of Lightning has: a network, a loss and an optimizer."""

    def __init__(self, model: nn.Module | None = None) -> None:
        super().__init__()
        self.model = vit() if model is None else model
        self.losses: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        raise AssertionError("the defense takes the place of this")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return sgd(self.model)


def loader(steps: int, parts: int = 1, form: Callable[..., Any] = lambda *parts: parts) -> DataLoader[Any]:
    """The batches of the plain loop, each in so many parts of equal size, in the form that a data loader gives them."""
    batches = []
    for step in range(steps):
        pixels, labels, ids = samples(step)
        for part in range(parts):
            rows = slice(part * N // parts, (part + 1) * N // parts)
            batches.append(form(normalised(pixels[rows]), labels[rows], ids[rows]))
    return DataLoader(batches, batch_size=None)


def fitted(module: Any, callbacks: list[Any], batches: DataLoader[Any], folder: Path, **options: Any) -> Any:
    from lightning.pytorch import Trainer

    resumed = options.pop("resumed", None)
    usual = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "max_epochs": 1}
    trainer = Trainer(accelerator="cpu", devices=1, default_root_dir=folder, callbacks=callbacks, **usual | options)
    trainer.fit(module, batches, ckpt_path=resumed)
    return trainer


def defended(defense: Defense, **options: Any) -> Any:
    from robustvit.training.adapters.lightning import LightningDefense

    return LightningDefense(defense, **{"mean": MEAN, "std": STD, "seed": 7} | options)


@pytest.mark.parametrize("name", [name for name in DEFENSES if name != "moves first"])
def test_losses_and_weights_are_those_of_the_plain_loop(name: str, tmp_path: Path) -> None:
    model, module = vit(), Lit()
    expected = plain_loop(model, DEFENSES[name](), 3)
    fitted(module, [defended(DEFENSES[name]())], loader(3), tmp_path)
    assert module.losses == pytest.approx(expected, abs=1e-6)
    assert distance(module.model, model) < 1e-6 < distance(model, vit())


@pytest.mark.parametrize(("name", "clip"), [("trades", None), ("sam", 0.1)])
def test_accumulated_and_clipped_gradients_are_those_of_the_whole_batch(name: str, clip: float | None, tmp_path: Path) -> None:
    model, module = vit(), Lit()
    plain_loop(model, DEFENSES[name](), 2, clip=clip)
    fitted(module, [defended(DEFENSES[name]())], loader(2, parts=3), tmp_path, accumulate_grad_batches=3, gradient_clip_val=clip)
    assert distance(module.model, model) < 1e-6


@pytest.mark.parametrize(
    "form",
    [
        lambda images, labels, ids: {"images": images, "labels": labels, "ids": list(ids)},
        lambda images, labels, ids: {"pixel_values": images, "label": labels, "id": list(ids), "text": "ignored"},
        lambda images, labels, ids: [images, labels, ids],
    ],
)
def test_batches_may_be_mappings(form: Callable[..., Any], tmp_path: Path) -> None:
    model, module = vit(), Lit()
    expected = plain_loop(model, DEFENSES["pgd_at"](), 1)
    fitted(module, [defended(DEFENSES["pgd_at"]())], loader(1, form=form), tmp_path)
    assert module.losses == pytest.approx(expected, abs=1e-6)


class Doubled(nn.Module):
    """A network with another around it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


def test_a_network_is_prepared_before_the_optimizer_and_exported_after_fitting(tmp_path: Path) -> None:
    stepped: list[nn.Module] = []
    defense = Defense("wraps", prepare=Doubled, after_step=stepped.append, export=lambda model: model.inner)
    module, bare = Lit(), vit()
    module.model = bare
    trainer = fitted(module, [defended(defense)], loader(2), tmp_path)
    assert module.model is bare
    assert [type(one) for one in stepped] == [Doubled, Doubled]
    assert len(trainer.optimizers[0].param_groups[0]["params"]) == len(list(bare.parameters()))
    assert "training_step" not in vars(module)


def counting() -> Defense:
    """A defense whose loss depends on how often it was called before."""
    state = {"calls": torch.zeros(())}

    def loss(model: nn.Module, batch: rv.Batch, draws: rv.Draws) -> Tensor:
        state["calls"] = state["calls"] + 1
        noise = 0.3 * draws.uniform(3, 16, 16) * state["calls"]
        return nn.functional.cross_entropy(model(batch.images + noise), batch.targets)

    return Defense("counting", loss=loss, state=state)


def test_fitting_goes_on_from_a_checkpoint_as_without_a_stop(tmp_path: Path) -> None:
    whole, first, second = Lit(), Lit(), Lit()
    whole_steps = [samples(step) for step in range(2)]
    batches = DataLoader([(normalised(pixels), labels, ids) for pixels, labels, ids in whole_steps], batch_size=None)
    fitted(whole, [defended(counting())], batches, tmp_path, max_epochs=2)
    trainer = fitted(first, [defended(counting())], batches, tmp_path, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    fitted(second, [defended(counting())], batches, tmp_path, max_epochs=2, resumed=tmp_path / "a.ckpt")
    assert second.losses == pytest.approx(whole.losses[2:], abs=1e-6)
    assert distance(second.model, whole.model) < 1e-6


def test_a_warm_up_knows_how_long_the_trainer_trains(tmp_path: Path) -> None:
    positions: list[tuple[int, int, int]] = []

    def watch(batch: rv.Batch, draws: rv.Draws) -> rv.Batch:
        positions.append((batch.progress.step, batch.progress.steps, batch.progress.epochs))
        return batch

    fitted(Lit(), [defended(Defense("watch", batch=watch))], loader(3), tmp_path, max_epochs=2)
    assert positions == [(step, 6, 2) for step in range(6)]


def test_a_monitor_logs_robust_numbers_by_which_a_checkpoint_is_chosen(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    from robustvit.training.adapters.lightning import LightningMonitor

    (tmp_path / "w.yaml").write_text("{name: w, title: w, data: digits, scenarios: [clean, {fgsm: {eps: 1/255}}], metrics: [top1]}")
    start = rv.load_model("demo")
    module = Lit(start.model.requires_grad_(True).train())
    mean, std = (tuple(float(one) for one in of.flatten()) for of in (start.mean, start.std))
    monitor = rv.Monitor(tmp_path / "w.yaml", "digits?part=calibration", limit=40, every=2, store=tmp_path / "s")
    best = ModelCheckpoint(dirpath=tmp_path, monitor="robust_score", mode="max", save_on_train_epoch_end=True, every_n_epochs=2)
    images = torch.rand(4, 3, *start.size, generator=torch.Generator().manual_seed(0))
    batches = DataLoader([((images - 0.5) / 0.5, torch.arange(4))], batch_size=None)
    watch = LightningMonitor(monitor, view=start.view, mean=mean, std=std)
    trainer = fitted(module, [watch, best, defended(Defense("x"), mean=mean, std=std)], batches, tmp_path, max_epochs=3,
                     enable_checkpointing=True)  # fmt: skip
    rows = rv.load_records(tmp_path / "s").to_pandas(["label", "pred"])
    assert sorted(rows["model"].unique()) == ["epoch 2", "epoch 3"]
    last = rows[rows["model"] == "epoch 3"].assign(right=rows["label"] == rows["pred"]).groupby("scenario")["right"].mean()
    assert float(trainer.callback_metrics["robust_score"]) == pytest.approx(last["fgsm"])
    assert float(trainer.callback_metrics["robust_clean"]) == pytest.approx(last["clean"])
    second = rows[rows["model"] == "epoch 2"].assign(right=rows["label"] == rows["pred"]).groupby("scenario")["right"].mean()
    assert float(best.best_model_score) == pytest.approx(second["fgsm"])
    assert module.model.training


class ByHand(Lit):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class TwoOptimizers(Lit):
    def configure_optimizers(self) -> Any:
        return [sgd(self.model), sgd(self.model)]


def test_what_a_defense_cannot_train_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="ByHand optimises by hand"):
        fitted(ByHand(), [defended(Defense("x"))], loader(1), tmp_path)
    with pytest.raises(BadParameter, match=r"Lit has no module 'net'; name .* \(it has model\)"):
        fitted(Lit(), [defended(Defense("x"), network="net")], loader(1), tmp_path)
    with pytest.raises((BadParameter, RuntimeError), match="optimizers"):
        fitted(TwoOptimizers(), [defended(Defense("x"))], loader(1), tmp_path)
    with pytest.raises(PixelRange, match="Give those of the loop's normalisation"):
        fitted(Lit(), [defended(Defense("x"), mean=(0.9,) * 3)], loader(1), tmp_path)
    with pytest.raises(BadParameter, match="a batch is a Tensor; a defense takes"):
        fitted(Lit(), [defended(Defense("x"))], loader(1, form=lambda images, labels, ids: images), tmp_path)


def test_without_lightning_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "robustvit.training.adapters.lightning", raising=False)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(MissingExtra, match=r"robustvit\[lightning\]"):
        import robustvit.training.adapters.lightning  # noqa: F401
