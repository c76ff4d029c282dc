"""Defenses as a task of timm, against the plain loop."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from plain_training import CLASSES, DEFENSES, MEAN, STD, N, distance, normalised, plain_loop, samples, sgd, vit
from torch import Tensor, nn

from robustvit.errors import BadParameter, MissingExtra
from robustvit.primitives.defense import Defense

pytestmark = pytest.mark.frameworks
tasks = pytest.importorskip("timm.task")


def task_of(defense: Defense, model: nn.Module | None = None, criterion: Any = None, **options: Any) -> Any:
    from robustvit.training.adapters.timm import DefenseTask

    usual = {"mean": MEAN, "std": STD, "seed": 7, "verbose": False}
    return DefenseTask(vit() if model is None else model, defense, criterion, **usual | options)


def trained(task: Any, steps: int, parts: int = 1, clip: float | None = None) -> list[float]:
    """The calls of timm's train_one_epoch, without its clock and its logs."""
    from timm.utils import dispatch_clip_grad

    optimizer, losses = sgd(task.get_trainable_module()), []
    task.attach(optimizer)
    optimizer.zero_grad()
    for step in range(steps):
        pixels, labels, _ = samples(step)
        for part in range(parts):
            rows = slice(part * N // parts, (part + 1) * N // parts)
            loss = task(normalised(pixels[rows]), labels[rows])["loss"]
            losses.append(loss.item())
            if parts > 1:
                loss /= parts
            loss.backward()
        if clip is not None:
            dispatch_clip_grad(task.get_clip_parameters(), value=clip, mode="norm")
        optimizer.step()
        optimizer.zero_grad()
        task.update_ema(step=step)
    return losses


def placed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the plain loop the ids that a task gives rows by their places, one part a step."""
    import plain_training

    monkeypatch.setattr(plain_training, "samples", lambda step: (*samples(step)[:2], tuple(f"0/0/{row}" for row in range(N))))


@pytest.mark.parametrize("name", [name for name in DEFENSES if name != "moves first"])
def test_losses_and_weights_are_those_of_the_plain_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    placed(monkeypatch)
    model, task = vit(), task_of(DEFENSES[name]())
    expected = plain_loop(model, DEFENSES[name](), 3)
    assert trained(task, 3) == pytest.approx(expected, abs=1e-6)
    assert distance(task.get_trainable_module(), model) < 1e-6 < distance(model, vit())


def test_accumulated_and_clipped_gradients_are_those_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    placed(monkeypatch)
    model, task = vit(), task_of(DEFENSES["sam"](), clip=0.1)
    plain_loop(model, DEFENSES["sam"](), 2, clip=0.1)
    trained(task, 2, parts=3, clip=0.1)
    assert distance(task.get_trainable_module(), model) < 1e-6


def test_timm_s_criterion_takes_the_place_of_cross_entropy_also_of_mixup_s_soft_targets() -> None:
    from timm.data import Mixup
    from timm.loss import SoftTargetCrossEntropy

    pixels, labels, _ = samples()
    images, soft = Mixup(mixup_alpha=0.8, num_classes=CLASSES, label_smoothing=0.1)(normalised(pixels), labels)
    task = task_of(Defense("x"), criterion=SoftTargetCrossEntropy())
    result = task(images, soft)
    logits = task.get_trainable_module()(images)
    assert result["loss"].item() == pytest.approx(SoftTargetCrossEntropy()(logits, soft).item(), abs=1e-5)
    assert torch.allclose(result["output"], logits, atol=1e-5)
    with pytest.raises(BadParameter, match="'trades' has a loss of its own"):
        task_of(DEFENSES["trades"](), criterion=SoftTargetCrossEntropy())


def test_without_gradients_it_is_timm_s_own_task() -> None:
    pixels, labels, _ = samples()
    task, own = task_of(DEFENSES["pgd_at"]()), tasks.ClassificationTask(vit(), nn.CrossEntropyLoss(), verbose=False)
    with torch.no_grad():
        first, second = task(normalised(pixels), labels), own(normalised(pixels), labels)
    assert torch.equal(first["loss"], second["loss"])
    assert torch.equal(first["output"], second["output"])


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


def test_a_model_is_prepared_at_once_and_exported_at_the_end() -> None:
    stepped: list[nn.Module] = []
    bare = vit()
    task = task_of(Defense("wraps", prepare=Around, after_step=stepped.append, export=lambda model: model.inner), bare)
    trained(task, 2)
    assert [type(one) for one in stepped] == [Around, Around]
    assert task.exported() is bare


def test_what_a_defense_keeps_is_in_the_checkpoints_of_the_task(tmp_path: Path) -> None:
    first = task_of(Defense("keeps", state={"seen": torch.tensor(4)}))
    trained(first, 2)
    torch.save(first.get_checkpoint_state() | {"epoch": 0}, tmp_path / "a.pt")
    fresh = Defense("keeps", state={"seen": torch.tensor(0)})
    second = task_of(fresh)
    tasks.resume_task_checkpoint(second, str(tmp_path / "a.pt"), log_info=False)
    assert (int(fresh.state["seen"]), second.steps.step) == (4, 2)
    assert distance(second.get_trainable_module(), first.get_trainable_module()) == 0


PAGE = Path(__file__).resolve().parents[3] / "docs" / "frameworks.md"
TRAIN_PY = """\
        # Standard classification task
        task = ClassificationTask(
            model=model,
            criterion=train_loss_fn,
            device=device,
            dtype=model_dtype,
            verbose=utils.is_primary(args),
        )

    model = task.get_trainable_module()
    eval_model = task.get_eval_model()

    optimizer = create_optimizer_v2(
        model,
        **optimizer_kwargs(cfg=args),
        **args.opt_kwargs,
    )
    if utils.is_primary(args):
"""  # of timm 1.0.28


def test_the_patch_of_the_page_fits_timm_s_train_py_and_trains() -> None:
    (diff,) = re.findall(r"^```diff\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    hunks = [[line for line in hunk.splitlines() if line] for hunk in diff.split("@@\n")[1:]]
    before = [line[1:] for hunk in hunks for line in hunk if line[0] in " -"]
    assert [line for line in before if line not in TRAIN_PY.splitlines()] == ["from timm.task import ("]
    imports, call, attach = ([line[1:] for line in hunk if line[0] in " +"] for hunk in hunks)
    names = {
        "model": vit(), "train_loss_fn": nn.CrossEntropyLoss(), "device": torch.device("cpu"), "model_dtype": None,
        "args": SimpleNamespace(clip_grad=None, seed=7), "data_config": {"mean": MEAN, "std": STD},
        "utils": SimpleNamespace(is_primary=lambda args: False),
    }  # fmt: skip
    exec("\n".join([*imports[:-1], "if True:", *call]), names)
    pixels, labels, _ = samples()
    assert names["task"].steps.defense.name == "pgd_at"  # type: ignore[attr-defined]
    optimizer = sgd(names["task"].get_trainable_module())  # type: ignore[attr-defined]
    exec(attach[-1].strip(), names | {"optimizer": optimizer})
    names["task"](normalised(pixels), labels)["loss"].backward()  # type: ignore[operator]
    optimizer.step()
    assert names["task"].steps.step == 1  # type: ignore[attr-defined]


def test_without_tasks_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "robustvit.training.adapters.timm", raising=False)
    monkeypatch.setitem(sys.modules, "timm.task", None)
    with pytest.raises(MissingExtra, match=r"timm 1\.0\.27 or later"):
        import robustvit.training.adapters.timm  # noqa: F401
