"""Defenses in Hugging Face's Trainer, against the plain loop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from plain_training import CLASSES, DEFENSES, MEAN, STD, N, distance, normalised, plain_loop, samples, sgd, vit
from torch import Tensor, nn
from torch.utils.data import Dataset

import robustvit as rv
from robustvit.errors import BadParameter, MissingExtra
from robustvit.primitives.batch import Batch, TrainingStep
from robustvit.primitives.defense import Defense

pytestmark = pytest.mark.frameworks
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")


class Output(dict):  # type: ignore[type-arg]
    """What models of transformers return."""

    @property
    def logits(self) -> Tensor:
        return self["logits"]


class Wrapped(nn.Module):
    """A ViT with the manners of transformers: keyword arguments, a loss beside the logits."""

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = vit() if inner is None else inner
        self.config = SimpleNamespace(problem_type=None)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **more: Any) -> Output:
        logits = self.inner(pixel_values)
        return Output(logits=logits) if labels is None else Output(loss=nn.functional.cross_entropy(logits, labels), logits=logits)


class Logits(nn.Module):
    """Such a model as the plain loop takes it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images).logits


class Rows(Dataset[Any]):
    """The samples of some steps of the plain loop, in their order."""

    def __init__(self, steps: int) -> None:
        self.rows = [
            {"pixel_values": image, "labels": label, "ids": name}
            for step in range(steps)
            for image, label, name in zip(normalised(samples(step)[0]), *samples(step)[1:], strict=True)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self.rows[row]


def collated(rows: list[Any]) -> dict[str, Any]:
    stacked = {key: torch.stack([row[key] for row in rows]) for key in ("pixel_values", "labels")}
    return stacked | {"ids": [row["ids"] for row in rows]}


def arguments(folder: Path, **options: Any) -> Any:
    usual = {
        "per_device_train_batch_size": N, "num_train_epochs": 1, "seed": 7, "report_to": [], "use_cpu": True, "logging_steps": 1,
        "save_strategy": "no", "remove_unused_columns": False, "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "disable_tqdm": True,
    }  # fmt: skip
    return transformers.TrainingArguments(output_dir=str(folder), **usual | options)


def trainer_of(defense: Defense, steps: int, folder: Path, model: nn.Module | None = None, more: Any = None, **options: Any) -> Any:
    from robustvit.training.adapters.huggingface import DefenseTrainer

    class InOrder(DefenseTrainer):
        def _get_train_sampler(self, *given: Any) -> Iterator[int]:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def create_optimizer(self, *given: Any) -> Any:
            self.optimizer = self.optimizer or sgd(self.model)
            return super().create_optimizer(*given)

    network = Wrapped() if model is None else model
    given = {"mean": MEAN, "std": STD} | (more or {})
    return InOrder(network, arguments(folder, **options), defense=defense, train_dataset=Rows(steps), data_collator=collated, **given)


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", [name for name in DEFENSES if name != "moves first"])
def test_losses_and_weights_are_those_of_the_plain_loop(name: str, tmp_path: Path) -> None:
    model = Wrapped()
    expected = plain_loop(Logits(model), DEFENSES[name](), 3)
    trainer = trainer_of(DEFENSES[name](), 3, tmp_path)
    trainer.train()
    assert losses(trainer) == pytest.approx(expected, abs=1e-6)
    assert distance(trainer.model, model) < 1e-6 < distance(model, Wrapped())


@pytest.mark.parametrize(("name", "clip"), [("trades", None), ("sam", 0.1)])
def test_accumulated_and_clipped_gradients_are_those_of_the_whole_batch(name: str, clip: float | None, tmp_path: Path) -> None:
    model = vit()
    plain_loop(model, DEFENSES[name](), 2, clip=clip)
    parts = {"per_device_train_batch_size": N // 3, "gradient_accumulation_steps": 3, "max_grad_norm": clip or 0.0}
    trainer = trainer_of(DEFENSES[name](), 2, tmp_path, **parts)
    trainer.train()
    assert distance(trainer.model.inner, model) < 1e-6


def test_a_vit_of_transformers_is_trained_by_its_image_processor_s_mean(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=16, patch_size=8, num_labels=CLASSES,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model, copy = ViTForImageClassification(config), ViTForImageClassification(config)
    copy.load_state_dict(model.state_dict())
    processor = ViTImageProcessor(image_mean=list(MEAN), image_std=list(STD))
    trainer = trainer_of(DEFENSES["trades"](), 2, tmp_path, model, {"processing_class": processor, "mean": None, "std": None}, max_steps=2)
    trainer.train()

    assert losses(trainer) == pytest.approx(plain_loop(Logits(copy), DEFENSES["trades"](), 2), abs=1e-6)
    assert distance(model, copy) < 1e-6


def test_evaluation_is_that_of_the_trainer(tmp_path: Path) -> None:
    trainer = trainer_of(DEFENSES["trades"](), 1, tmp_path)
    metrics = trainer.evaluate(eval_dataset=Rows(1))
    pixels, labels, _ = samples()
    expected = nn.functional.cross_entropy(vit()(normalised(pixels)), labels)
    assert metrics["eval_loss"] == pytest.approx(expected.item(), abs=1e-6)


def test_a_model_is_prepared_before_training_and_exported_after_it(tmp_path: Path) -> None:
    stepped: list[nn.Module] = []

    class Around(Wrapped):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__(inner)

        def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **more: Any) -> Output:
            return self.inner(pixel_values, labels, **more)

    defense = Defense("wraps", prepare=Around, after_step=stepped.append, export=lambda model: model.inner)
    bare = Wrapped()
    trainer = trainer_of(defense, 2, tmp_path, bare)
    trainer.train()
    assert trainer.model is bare
    assert [type(one) for one in stepped] == [Around, Around]


def counting() -> Defense:
    """A defense whose loss depends on how often it was called before."""
    state = {"calls": torch.zeros(())}

    def loss(model: nn.Module, batch: Batch, draws: rv.Draws) -> Tensor:
        state["calls"] = state["calls"] + 1
        noise = 0.3 * draws.uniform(3, 16, 16) * state["calls"]
        return nn.functional.cross_entropy(model(batch.images + noise), batch.targets)

    return Defense("counting", loss=loss, state=state)


def test_training_goes_on_from_a_checkpoint_as_without_a_stop(tmp_path: Path) -> None:
    whole = trainer_of(counting(), 4, tmp_path, save_strategy="steps", save_steps=2)
    whole.train()
    again = trainer_of(counting(), 4, tmp_path / "again")
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert losses(again)[-2:] == pytest.approx(losses(whole)[-2:], abs=1e-6)
    assert distance(again.model.inner, whole.model.inner) < 1e-6


def test_a_warm_up_knows_how_long_the_trainer_trains(tmp_path: Path) -> None:
    positions: list[TrainingStep] = []
    watch = Defense("watch", batch=lambda batch, draws: positions.append(batch.progress) or batch)
    trainer_of(watch, 2, tmp_path, num_train_epochs=2).train()
    assert positions == [TrainingStep(step, 4, 2) for step in range(4)]


def test_a_monitor_logs_robust_numbers_by_which_the_best_model_is_chosen(tmp_path: Path) -> None:
    from robustvit.training.adapters.huggingface import TrainerMonitor

    (tmp_path / "w.yaml").write_text("{name: w, title: w, data: digits, scenarios: [clean, {fgsm: {eps: 1/255}}], metrics: [top1]}")
    start = rv.load_model("demo")
    mean, std = (tuple(float(one) for one in of.flatten()) for of in (start.mean, start.std))

    class Few(Rows):
        def __init__(self) -> None:
            images = torch.rand(4, 3, *start.size, generator=torch.Generator().manual_seed(0))
            self.rows = [{"pixel_values": (images[i] - 0.5) / 0.5, "labels": torch.tensor(i), "ids": str(i)} for i in range(4)]

    trainer = trainer_of(
        Defense("x"), 1, tmp_path / "out", Wrapped(start.model.requires_grad_(True).train()),
        {"mean": mean, "std": std, "eval_dataset": Few()}, num_train_epochs=2, eval_strategy="epoch", save_strategy="epoch",
        metric_for_best_model="robust_score", greater_is_better=True, load_best_model_at_end=True,
    )  # fmt: skip
    trainer.train_dataset = Few()
    monitor = rv.Monitor(tmp_path / "w.yaml", "digits?part=calibration", limit=40, store=tmp_path / "s")
    trainer.add_callback(TrainerMonitor(trainer, monitor, view=start.view, mean=mean, std=std))
    trainer.train()
    rows = rv.load_records(tmp_path / "s").to_pandas(["label", "pred"])
    right = rows.assign(right=rows["label"] == rows["pred"]).groupby(["model", "scenario"])["right"].mean()
    logged = [entry for entry in trainer.state.log_history if "robust_score" in entry]
    assert [entry["robust_score"] for entry in logged] == pytest.approx([right[f"epoch {n}", "fgsm"] for n in (1, 2)])
    assert [entry["robust_clean"] for entry in logged] == pytest.approx([right[f"epoch {n}", "clean"] for n in (1, 2)])
    assert trainer.state.best_metric == pytest.approx(max(entry["robust_score"] for entry in logged))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "smoothing": (
        lambda folder: trainer_of(Defense("x"), 1, folder, label_smoothing_factor=0.1), r"take no part in the loss.*give criterion",
    ),
    "no mean": (lambda folder: trainer_of(Defense("x"), 1, folder, more={"mean": None, "std": None}), "there is no processing_class"),
    "criterion": (
        lambda folder: trainer_of(DEFENSES["trades"](), 1, folder, more={"criterion": nn.CrossEntropyLoss()}), "has a loss of its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_defense_cannot_train_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    call, message = REFUSED[case]
    with pytest.raises(BadParameter, match=message) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["transformers", "accelerate.utils"])
def test_without_its_packages_one_line_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "robustvit.training.adapters.huggingface", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"robustvit\[hf\]"):
        import robustvit.training.adapters.huggingface  # noqa: F401
