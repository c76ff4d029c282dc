"""A training run that is killed goes on to the same bytes, and from nothing but its own state."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustvit.data.formats.arrays import ArrayDataset, array_dataset
from robustvit.errors import BadParameter, ModelError, StoreFull
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Closure, Defense
from robustvit.primitives.draws import Draws
from robustvit.spec import registry
from robustvit.spec.view import View
from robustvit.training.loop import StepProgress, Trained, train
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec
from robustvit.training.state import TrainingState, read_state, write_state

KWARGS = "img_size=32,patch_size=16,embed_dim=8,depth=1,num_heads=1,proj_drop_rate=0.3"
ADDRESS = f"vit_tiny_patch16_224?weights=random&num_classes=10&crop_pct=1&kwargs={KWARGS}"
RECIPE = Recipe(epochs=3, batch_size=4, ema=0.5)  # three steps an epoch
QUESTION = {"seed": "0"}


class Killed(Exception):
    """What ends a run in the middle."""


def data() -> ArrayDataset:
    labels = np.arange(13) % 2
    images = np.random.default_rng(0).integers(0, 256, (13, 8, 8, 3), dtype=np.uint8)
    return array_dataset("levels", images, labels, ids=[f"levels/{i}" for i in range(13)], classes=["0", "1"])


def model() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 2))


def averaging(killed_at: int | None = None) -> Defense:
    """Keeps a running mean of the images from step to step, adds it to each batch, and is killed before a step."""
    state: dict[str, Tensor] = {}

    def batch(given: Batch, draws: Draws) -> Batch:
        if given.progress.step == killed_at:
            raise Killed
        state["mean"] = 0.9 * state.get("mean", torch.zeros(3, 8, 8)) + 0.1 * given.images.mean(dim=0)
        return given.with_images((given.images + state["mean"]) / 2)

    def step(closure: Closure, optimizer: torch.optim.Optimizer) -> Tensor:
        loss = closure()
        optimizer.step()
        return loss

    return Defense("averaging", batch=batch, step=step, state=state)


def trained(defense: Defense, **options: object) -> Trained:
    view = View(size=(8, 8), resize=8)
    return train(model(), data(), view=view, mean=(0.5,) * 3, std=(0.5,) * 3, defense=defense, recipe=RECIPE, seed=3, **options)  # type: ignore[arg-type]


def bytes_of(module: nn.Module) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in module.state_dict().values())


@pytest.mark.parametrize("killed_at", range(1, 9))
@pytest.mark.parametrize("keep_every", [0.0, 300.0], ids=["every step", "every epoch"])
def test_killed_before_any_step_it_goes_on_to_the_same_bytes(tmp_path: Path, killed_at: int, keep_every: float) -> None:
    whole, file = trained(averaging()), tmp_path / "a.resume.pt"

    def keep(state: TrainingState) -> None:
        write_state(file, state, QUESTION)

    with pytest.raises(Killed):
        trained(averaging(killed_at), keep=keep, keep_every=keep_every)
    kept = read_state(file, QUESTION)
    assert (kept is None) == (keep_every > 0 and killed_at < 3)
    assert kept is None or kept.step == (killed_at if keep_every == 0 else killed_at // 3 * 3)
    again = trained(averaging(), start=kept, keep=keep, keep_every=keep_every)
    assert bytes_of(again.model) == bytes_of(whole.model)
    assert again.losses == whole.losses


def test_a_state_of_another_training_is_refused_by_what_differs(tmp_path: Path) -> None:
    file, states = tmp_path / "a.resume.pt", list[TrainingState]()
    trained(averaging(), keep=states.append)
    write_state(file, states[0], {"defense": "trades(beta=6)", "seed": "0"})
    with pytest.raises(BadParameter, match=r"stopped before step 3: its defense is trades\(beta=6\), and this one's mart\."):
        read_state(file, {"defense": "mart", "seed": "0"})
    with pytest.raises(BadParameter, match=r"its defense is .* \(1 more differ\)"):
        read_state(file, {"defense": "mart", "seed": "1"})


@pytest.mark.parametrize("content", [b"", b"no state", b"PK\x03\x04"])
def test_a_file_that_is_no_state_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.resume.pt").write_bytes(content)
    with pytest.raises(BadParameter, match=r"is no state of training .* remove it to begin anew"):
        read_state(tmp_path / "a.resume.pt", QUESTION)


def test_no_room_for_a_state_is_said_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[TrainingState] = []
    trained(averaging(), keep=states.append)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("robustvit.training.state.write_output", full)
    with pytest.raises(StoreFull, match=r"after step 3 cannot be written to .*: No space left on device"):
        write_state(tmp_path / "a.resume.pt", states[0], QUESTION)


def test_the_command_goes_on_from_where_it_was_killed_and_leaves_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(epochs=3, batch_size=640)
    whole = train_from_spec(ADDRESS, "digits", out=tmp_path / "whole" / "a.safetensors", recipe=recipe)
    seen: list[int] = []

    def stop(now: object) -> None:
        seen.append(now.epoch)  # type: ignore[attr-defined]
        if len(seen) == 2:
            raise KeyboardInterrupt

    out = tmp_path / "killed" / "a.safetensors"
    with pytest.raises(KeyboardInterrupt, match="The same command goes on from there"):
        train_from_spec(ADDRESS, "digits", out=out, recipe=recipe, progress=stop)
    assert sorted(path.name for path in out.parent.iterdir()) == ["a.partial.safetensors", "a.resume.pt"]
    with pytest.raises(BadParameter, match="its seed is 0, and this one's 1"):
        train_from_spec(ADDRESS, "digits", out=out, recipe=recipe, seed=1)
    again = train_from_spec(ADDRESS, "digits", out=out, recipe=recipe, progress=stop)
    assert seen == [1, 2, 2, 3], "the second epoch was not kept before it was killed"
    assert (out.read_bytes(), again.losses) == ((tmp_path / "whole" / "a.safetensors").read_bytes(), whole.losses)
    assert [path.name for path in out.parent.iterdir()] == ["a.safetensors"]


def test_the_log_of_a_killed_run_goes_on_without_a_gap_or_a_repetition(tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, batch_size=640)
    whole = train_from_spec(ADDRESS, "digits", out=tmp_path / "whole.safetensors", recipe=recipe, log_to="jsonl")
    stopping = [5]  # in the third epoch

    def stop(now: StepProgress) -> None:
        if now.step in stopping:
            stopping.clear()
            raise KeyboardInterrupt

    out = tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_from_spec(ADDRESS, "digits", out=out, recipe=recipe, log_to="jsonl", each=stop)
    (tmp_path / "a.log.jsonl").open("a").write('{"step": 6, "lo')  # as a kill leaves it
    train_from_spec(ADDRESS, "digits", out=out, recipe=recipe, log_to="jsonl", each=stop)
    uncut, cut = (logged(tmp_path / f"{name}.log.jsonl") for name in ("whole", "a"))
    assert cut == uncut
    assert [line["step"] for line in uncut] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in uncut] == [0.5, 1, 1.5, 2, 2.5, 3]
    assert [(uncut[at]["loss"] + uncut[at + 1]["loss"]) / 2 for at in (0, 2, 4)] == pytest.approx(whole.losses)


def logged(path: Path) -> list[dict[str, float]]:
    """The lines of a log without the time that they took."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_tensorboard_is_given_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard (the extra [tensorboard]) is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = Recipe(epochs=2, batch_size=640)
    for kind in ("jsonl", "tensorboard"):
        train_from_spec(ADDRESS, "digits", out=tmp_path / "a.safetensors", recipe=recipe, log_to=kind)
    events = EventAccumulator(str(tmp_path / "a.tensorboard"))
    events.Reload()
    wanted = logged(tmp_path / "a.log.jsonl")
    for name in ("loss", "lr", "epoch"):
        assert [(one.step, one.value) for one in events.Scalars(name)] == [
            (line["step"], pytest.approx(line[name], rel=1e-6)) for line in wanted
        ]


def test_an_unknown_log_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"log is 'jsonk'; it takes jsonl, mlflow, tensorboard or wandb\. Did you mean 'jsonl'"):
        train_from_spec(ADDRESS, "digits", out=tmp_path / "a.safetensors", log_to="jsonk")


def test_an_epoch_after_which_a_defense_objects_is_not_kept(tmp_path: Path) -> None:
    def objecting() -> Defense:
        return Defense("objecting", check=lambda model, batch, draws: "enough." if batch.progress.epoch == 1 else "")

    registry.defense(name="objecting")(objecting)
    out, epochs = tmp_path / "a.safetensors", list[int]()
    with pytest.raises(
        ModelError, match=r"training ends after epoch 2, with objecting: enough\. The weights after epoch 1 are in .*a\.part"
    ):
        train_from_spec(
            ADDRESS, "digits", out=out, recipe=Recipe(epochs=3, batch_size=640), defenses=["objecting"],
            progress=lambda now: epochs.append(now.epoch),
        )  # fmt: skip
    assert epochs == [1]
    assert (tmp_path / "a.partial.safetensors").exists()
    assert not out.exists()
