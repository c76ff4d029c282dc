"""The loss of a defense in a loop of one's own, against the plain loop written out step by step."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain_training import CLASSES, DEFENSES, MEAN, STD, N, distance, normalised, plain_loop, samples, sgd, vit
from torch import Tensor, nn

import robustvit as rv
from robustvit.data.formats.arrays import array_dataset
from robustvit.errors import BadParameter, ModelError, PixelRange
from robustvit.primitives.batch import Batch, TrainingStep
from robustvit.primitives.defense import Defense
from robustvit.training.recipe import Recipe


def own_loop(
    model: nn.Module, criterion: rv.DefenseLoss, optimizer: torch.optim.Optimizer, steps: int, clip: float | None = None
) -> list[float]:
    """What a PyTorch user writes."""
    losses = []
    for step in range(steps):
        pixels, labels, ids = samples(step)
        loss = criterion(normalised(pixels), labels, ids)
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("name", DEFENSES)
def test_losses_and_weights_are_those_of_the_plain_loop(name: str) -> None:
    first, second = vit(), vit()
    expected = plain_loop(first, DEFENSES[name](), 3)
    optimizer = sgd(second)
    criterion = rv.DefenseLoss(DEFENSES[name](), second, mean=MEAN, std=STD, optimizer=optimizer, seed=7)
    found = own_loop(second, criterion, optimizer, 3)
    assert name == "moves first" or found == pytest.approx(expected, abs=1e-6)  # the plain loop computes no loss at the weights themselves
    assert distance(first, second) < 1e-6 < distance(first, vit())
    assert criterion.state_dict()["_extra_state"]["step"] == 3


def test_a_step_of_robustvit_train_is_that_of_a_loop_of_one_s_own() -> None:
    first, second = vit(), vit()
    pixels, labels, ids = samples()
    images = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    data = array_dataset("six", images, labels.numpy(), ids=list(ids), classes=[str(c) for c in range(CLASSES)])
    recipe = Recipe(epochs=1, batch_size=N, lr=1e-3, warmup=0.0, rotation=0.0, scale=0.0, shift=0.0, clip=0.5, weight_decay=0.0)
    view = rv.View(size=(16, 16), resize=16)
    done = rv.train(first, data, view=view, mean=MEAN, std=STD, defense=DEFENSES["trades+awp"](), recipe=recipe, seed=7)

    optimizer = torch.optim.AdamW(second.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    criterion = rv.DefenseLoss(DEFENSES["trades+awp"](), second.train(), mean=MEAN, std=STD, optimizer=optimizer, seed=7, clip=0.5)
    criterion(normalised(pixels), labels, ids).backward()
    nn.utils.clip_grad_norm_(second.parameters(), 0.5)
    optimizer.step()
    assert distance(done.model, second) < 1e-5 < 5e-4 < distance(second, vit())  # Adam moves weights of tiny gradients by up to 1e-3


def test_frameworks_are_imported_only_where_they_are_used() -> None:
    code = "import sys, robustvit as rv; rv.DefenseLoss, rv.as_classifier; print(*{name.split('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in found
    assert not {"lightning", "transformers", "accelerate"} & set(found)


def test_gradients_that_are_computed_again_are_clipped_as_the_loop_clips() -> None:
    first, second = vit(), vit()
    expected = plain_loop(first, DEFENSES["sam"](), 2, clip=0.1)
    optimizer = sgd(second)
    criterion = rv.DefenseLoss(DEFENSES["sam"](), second, mean=MEAN, std=STD, optimizer=optimizer, seed=7, clip=0.1)
    assert own_loop(second, criterion, optimizer, 2, clip=0.1) == pytest.approx(expected, abs=1e-6)
    assert distance(first, second) < 1e-6


def test_parts_of_a_step_are_computed_again_each_with_its_share() -> None:
    """SAM over two parts, scaled by half, is SAM over the whole batch."""
    first, second = vit(), vit()
    plain_loop(first, DEFENSES["sam"](), 1)
    optimizer, (pixels, labels, ids) = sgd(second), samples()
    criterion = rv.DefenseLoss(DEFENSES["sam"](), second, mean=MEAN, std=STD, optimizer=optimizer, seed=7)
    optimizer.zero_grad()
    for part in (slice(0, 2), slice(2, N)):
        loss = criterion(normalised(pixels[part]), labels[part], ids[part])
        loss /= N / len(ids[part])  # in place, as some loops do
        loss.backward()
    optimizer.step()
    assert distance(first, second) < 1e-6
    assert criterion.steps.step == 1


def test_a_closure_and_a_scheduler_change_nothing() -> None:
    first, second = vit(), vit()
    expected = plain_loop(first, DEFENSES["trades+awp"](), 1)
    optimizer, (pixels, labels, ids) = sgd(second), samples()
    criterion = rv.DefenseLoss(DEFENSES["trades+awp"](), second, mean=MEAN, std=STD, optimizer=optimizer, seed=7)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = criterion(normalised(pixels), labels, ids)
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(expected[0], abs=1e-6)
    schedule.step()
    assert distance(first, second) < 1e-6


def test_what_is_computed_again_is_under_the_loop_s_autocast() -> None:
    dtypes: list[torch.dtype] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(768, CLASSES)

        def forward(self, images: Tensor) -> Tensor:
            logits = self.head(images.flatten(1))
            dtypes.append(logits.dtype)
            return logits

    model = Watched()
    optimizer, (pixels, labels, _) = sgd(model), samples()
    criterion = rv.DefenseLoss(DEFENSES["sam"](), model, optimizer=optimizer)
    with torch.autocast("cpu", torch.bfloat16):
        loss = criterion(pixels, labels)
    loss.backward()
    optimizer.step()
    assert dtypes == [torch.bfloat16] * 2
    with torch.autocast("cpu", torch.float16), pytest.raises(BadParameter, match=r"'sam' computes gradients again.*use bfloat16"):
        criterion(pixels, labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_criterion_takes_the_place_of_cross_entropy(smoothing: float) -> None:
    pixels, labels, ids = samples()
    model, defense = vit(), DEFENSES["pgd_at"]()
    criterion = rv.DefenseLoss(defense, model, nn.CrossEntropyLoss(label_smoothing=smoothing), mean=MEAN, std=STD, seed=7)
    read = rv.OnPixels(model, MEAN, STD)
    crafted = defense.craft_for(read, Batch(pixels, labels, ids), rv.Draws.for_step(7, 0, ids)).shown
    target = torch.full((N, CLASSES), smoothing / CLASSES).scatter(1, labels[:, None], 1 - smoothing + smoothing / CLASSES)
    expected = -(target * read(crafted).log_softmax(dim=1)).sum(dim=1).mean()
    assert criterion(normalised(pixels), labels, ids).item() == pytest.approx(expected.item(), abs=1e-6)


def test_soft_labels_reach_a_defense_that_takes_them_and_mart_refuses_them() -> None:
    pixels, _, ids = samples()
    soft = torch.rand(N, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    model = vit()
    found = rv.DefenseLoss(DEFENSES["pgd_at"](), model, mean=MEAN, std=STD, seed=7)(normalised(pixels), soft, ids)
    read, defense = rv.OnPixels(model, MEAN, STD), DEFENSES["pgd_at"]()
    batch = Batch(pixels, soft.argmax(dim=1), ids, soft_labels=soft)
    assert found.item() == pytest.approx(defense(read, batch, rv.Draws.for_step(7, 0, ids)).item(), abs=1e-6)
    with pytest.raises(BadParameter, match="'mart' weighs images by their label"):
        rv.DefenseLoss(rv.load_defense("mart", eps=0.1, steps=1), model, mean=MEAN, std=STD)(normalised(pixels), soft)


def test_without_gradients_it_is_the_criterion_of_the_images_and_counts_no_step() -> None:
    pixels, labels, _ = samples()
    model = vit()
    criterion = rv.DefenseLoss(DEFENSES["pgd_at"](), model, mean=MEAN, std=STD)
    with torch.no_grad():
        assert float(criterion(normalised(pixels), labels)) == pytest.approx(
            float(nn.functional.cross_entropy(model(normalised(pixels)), labels)), abs=1e-6
        )
    assert criterion.steps.step == 0
    criterion(normalised(pixels), labels)
    assert criterion.steps.step == 1


def test_without_ids_rows_steps_and_parts_draw_apart() -> None:
    seen: list[Tensor] = []

    def loss(model: nn.Module, batch: Batch, draws: rv.Draws) -> Tensor:
        seen.append(draws.uniform(1))
        return model(batch.shown).sum() * 0

    pixels, labels, _ = samples()
    model = vit()
    optimizer = sgd(model)
    criterion = rv.DefenseLoss(Defense("noise", loss=loss), model, optimizer=optimizer)
    for _ in range(2):
        for _ in range(2):
            criterion(pixels, labels).backward()
        optimizer.step()
    assert len(torch.cat(seen).unique()) == 4 * N


def test_an_on_pixels_and_models_of_hugging_face_s_outputs_are_taken() -> None:
    class Output:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor) -> Output:
            return Output(self.inner(images))

    pixels, labels, ids = samples()
    model = vit()
    expected = rv.DefenseLoss(DEFENSES["trades"](), model, mean=MEAN, std=STD)(normalised(pixels), labels, ids).item()
    for given, images in ((rv.OnPixels(model, MEAN, STD), pixels), (rv.OnPixels(Wrapped(model), MEAN, STD), pixels)):
        assert rv.DefenseLoss(DEFENSES["trades"](), given)(images, labels, ids).item() == pytest.approx(expected, abs=1e-6)


def test_a_warm_up_needs_the_length_of_training() -> None:
    pixels, labels, ids = samples()
    defense = rv.load_defense("pgd_at", eps="8/255", steps=1, warmup=2)
    with pytest.raises(BadParameter, match=r"changes over training.*give steps and epochs"):
        rv.DefenseLoss(defense, vit())(pixels, labels, ids)
    model = vit()
    criterion = rv.DefenseLoss(defense, model, steps=4, epochs=4)
    expected = nn.functional.cross_entropy(model(pixels), labels).item()
    assert criterion(pixels, labels, ids).item() == pytest.approx(expected, abs=1e-6)
    assert criterion.steps.position() == TrainingStep(1, 4, 4)


def test_a_check_ends_training_after_the_epoch_that_it_objects_to() -> None:
    pixels, labels, ids = samples()
    asked: list[int] = []

    def check(model: nn.Module, batch: Batch, draws: rv.Draws) -> str:
        asked.append(batch.progress.step)
        return "it collapsed." if len(asked) == 2 else ""

    model = vit()
    optimizer = sgd(model)
    criterion = rv.DefenseLoss(Defense("watch", check=check), model, optimizer=optimizer, steps=6, epochs=3)

    def step() -> None:
        criterion(pixels, labels, ids).backward()
        optimizer.step()

    for _ in range(3):
        step()
    with pytest.raises(ModelError, match="training ends after epoch 2, with watch: it collapsed"):
        step()
    assert asked == [1, 3]
    with pytest.raises(BadParameter, match="checks training after every epoch: give steps and epochs, or check=False"):
        rv.DefenseLoss(rv.load_defense("fast_at", eps=0.1), model, optimizer=optimizer)(pixels, labels)


def test_its_state_goes_on_from_a_checkpoint_and_another_defense_is_refused() -> None:
    counter = Defense("counter", state={"seen": torch.tensor(3)})
    saved = copy.deepcopy(rv.DefenseLoss(counter, vit()).state_dict())
    fresh = Defense("counter", state={"seen": torch.tensor(0)})
    criterion = rv.DefenseLoss(fresh, vit())
    saved["_extra_state"]["step"] = 5
    criterion.load_state_dict(saved)
    assert (int(fresh.state["seen"]), criterion.steps.step) == (3, 5)
    with pytest.raises(BadParameter, match="is of training with counter, and this is with pgd_at"):
        rv.DefenseLoss(DEFENSES["pgd_at"](), vit()).load_state_dict(saved)


def test_after_a_step_its_defense_is_given_the_bare_module() -> None:
    given: list[Any] = []
    pixels, labels, _ = samples()
    model = vit()
    optimizer = sgd(model)
    criterion = rv.DefenseLoss(Defense("watch", after_step=given.append), model, optimizer=optimizer, mean=MEAN, std=STD)
    criterion(normalised(pixels), labels).backward()
    optimizer.step()
    assert given == [model]


BAD: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "normalised": (lambda: _loss(normalised(samples()[0])), PixelRange, "they seem normalised. Give the mean and std"),
    "another mean": (lambda: _loss(normalised(samples()[0]) * 3, mean=MEAN, std=STD), PixelRange, "by mean .*Give those of the loop's"),
    "not numbers": (lambda: _loss(samples()[0] * float("nan")), PixelRange, "span .nan, nan"),
    "logits": (lambda: _loss(torch.zeros(N, CLASSES)), BadParameter, r"takes the images that the model takes.*it was given \(6, 4\)"),
    "bytes": (lambda: _loss(torch.zeros(N, 3, 16, 16, dtype=torch.uint8)), BadParameter, "of floats; it was given"),
    "float labels": (lambda: _loss(samples()[0], targets=torch.zeros(N)), BadParameter, "soft labels"),
    "fewer labels": (lambda: _loss(samples()[0], targets=torch.zeros(2).long()), BadParameter, "a batch of 6 images has 2 targets"),
    "fewer ids": (lambda: _loss(samples()[0], ids=("a",)), BadParameter, "a batch of 6 images has the ids 1"),
    "a mean alone": (lambda: rv.DefenseLoss(Defense("x"), vit(), mean=MEAN), BadParameter, "give both, or neither"),
    "frozen": (lambda: rv.DefenseLoss(Defense("x"), vit().requires_grad_(False)), ModelError, "there is nothing to train"),
    "a Classifier": (lambda: rv.DefenseLoss(Defense("x"), rv.load_model("demo")), ModelError, "'demo' is a Classifier, which is frozen"),
    "half": (lambda: rv.DefenseLoss(Defense("x"), vit().half()), ModelError, "weights of the model are float16"),
    "two losses": (
        lambda: rv.DefenseLoss(DEFENSES["trades"](), vit(), nn.CrossEntropyLoss()), BadParameter, "'trades' has a loss of its own",
    ),
    "no reduction": (
        lambda: rv.DefenseLoss(Defense("x"), vit(), nn.CrossEntropyLoss(reduction="none"))(*samples()), BadParameter, "reduction='mean'",
    ),
    "no optimizer": (lambda: rv.DefenseLoss(DEFENSES["sam"](), vit())(*samples()), BadParameter, "'sam' takes part in the"),
    "no backward": (lambda: _step_without_backward(), BadParameter, "steps before any backward of a loss of the defense 'sam'"),
    "no logits": (lambda: rv.DefenseLoss(Defense("x"), Pair())(*samples()), ModelError, "a Pair returned a tuple; a defense needs"),
    "diverged": (lambda: rv.DefenseLoss(Defense("x"), vit(), lambda a, b: a.sum() / 0)(*samples()), ModelError, "is .*inf at step 0"),
    "no steps": (lambda: rv.DefenseLoss(Defense("x"), vit(), steps=0), BadParameter, "a training run's steps is 0"),
}  # fmt: skip


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.mean(dim=(2, 3)), self.weight


def _loss(images: Tensor, targets: Tensor | None = None, ids: tuple[str, ...] | None = None, **options: Any) -> Tensor:
    return rv.DefenseLoss(Defense("x"), vit(), **options)(images, samples()[1] if targets is None else targets, ids)


def _step_without_backward() -> None:
    model = vit()
    optimizer = sgd(model)
    rv.DefenseLoss(DEFENSES["sam"](), model, optimizer=optimizer)
    optimizer.step()


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(case: str) -> None:
    call, kind, message = BAD[case]
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_is_no_defense_or_no_distribution_is_refused() -> None:
    with pytest.raises(BadParameter, match=r"the defense is a str; make one by rv\.load_defense"):
        rv.DefenseLoss("pgd_at", vit(), mean=MEAN, std=STD)  # type: ignore[arg-type]
    with pytest.raises(BadParameter, match=r"std is .*; it takes a number above 0 for each channel"):
        rv.DefenseLoss(Defense("plain"), vit(), mean=MEAN, std=(0.5, 0.0, 0.5))
    criterion = rv.DefenseLoss(Defense("plain"), vit(), mean=MEAN, std=STD)
    pixels, labels, _ = samples(0)
    soft = torch.nn.functional.one_hot(labels, CLASSES).float()
    criterion(normalised(pixels), soft)
    for wrong in (soft + 0.1, 2 * soft - 1):
        with pytest.raises(BadParameter, match="the soft labels are no distributions over the classes"):
            criterion(normalised(pixels), wrong)


def test_a_defense_is_read_with_its_parameters_and_several_are_one() -> None:
    one = rv.load_defense("sam(rho=0.1)")
    assert rv.compose([one, rv.load_defense("pgd_at(eps=8/255, steps=1)")]).name == "sam+pgd_at"
