import numpy as np
import pytest
import torch
from torch import nn

from robustvit.data.formats.arrays import ArrayDataset, array_dataset
from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.batch import Batch, TrainingStep
from robustvit.primitives.defense import Defense, compose
from robustvit.primitives.draws import Draws
from robustvit.spec.view import View
from robustvit.training.augmentation import jitter
from robustvit.training.loop import EpochProgress, Trained, train
from robustvit.training.recipe import Recipe

VIEW = View(size=(8, 8), resize=8)
STILL = {"rotation": 0.0, "scale": 0.0, "shift": 0.0}


def _data(count: int = 8, classes: int = 2) -> ArrayDataset:
    labels = np.arange(count) % classes
    images = np.broadcast_to((labels * 255 // max(1, classes - 1)).astype(np.uint8)[:, None, None, None], (count, 8, 8, 3)).copy()
    return array_dataset("levels", images, labels, ids=[f"levels/{i}" for i in range(count)], classes=[str(c) for c in range(classes)])


def _model(outputs: int = 2, dropout: float = 0.0) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(192, outputs))
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    return model


def _train(model: nn.Module, data: ArrayDataset | None = None, **options: object) -> Trained:
    recipe = options.pop("recipe", Recipe(epochs=2, batch_size=4))
    return train(model, data or _data(), view=VIEW, mean=(0.5,) * 3, std=(0.5,) * 3, recipe=recipe, **options)


def _weights(model: nn.Module) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())


def test_training_separates_black_from_white() -> None:
    losses = _train(_model(), recipe=Recipe(epochs=5, batch_size=4)).losses
    assert losses[0] == pytest.approx(np.log(2), rel=0.5)
    assert losses[-1] < 0.2


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = (_train(_model(dropout=0.5), seed=3).model for _ in range(2))
    assert _weights(first) == _weights(second)


def test_another_seed_gives_other_bytes() -> None:
    first, second = (_train(_model(dropout=0.5), seed=seed).model for seed in (0, 1))
    assert _weights(first) != _weights(second)


def test_the_global_generator_is_left_alone() -> None:
    model, before = _model(dropout=0.5), torch.random.get_rng_state()
    _train(model)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_order_of_the_listing_does_not_matter() -> None:
    data = _data()
    turned = array_dataset(
        "levels", np.stack([sample.image for sample in data][::-1]), data.labels[::-1], ids=data.ids[::-1], classes=data.classes
    )
    assert _weights(_train(_model(), data).model) == _weights(_train(_model(), turned).model)


def test_every_epoch_uses_each_sample_once_in_another_order() -> None:
    used: list[str] = []
    _train(_model(), defense=Defense("watch", batch=lambda batch, draws: used.extend(batch.ids) or batch))
    assert sorted(used[:8]) == sorted(used[8:]) == sorted(_data().ids)
    assert used[:8] != used[8:]


def test_fewer_samples_than_a_batch_are_one_batch() -> None:
    assert len(_train(_model(), _data(3), recipe=Recipe(epochs=1, batch_size=64)).losses) == 1


def test_the_first_step_of_a_warm_up_changes_nothing_and_the_last_of_the_cosine_little() -> None:
    rates: list[float] = []

    def step(closure: object, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        rates.append(optimizer.param_groups[0]["lr"])
        return closure()  # type: ignore[operator]

    _train(_model(), defense=Defense("watch", step=step), recipe=Recipe(epochs=5, batch_size=4, lr=1.0, warmup=0.2))
    assert rates[0] == 0.0
    assert max(rates) == rates[2] == 1.0
    assert rates[-1] == pytest.approx(0.5 * (1 - np.cos(np.pi / 8)))


def test_a_loss_receives_pixels_and_the_model_normalised_ones() -> None:
    minima: list[float] = []

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = _model()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            minima.append(float(images.min()))
            return self.logits(images)

    _train(Watch(), recipe=Recipe(epochs=1, batch_size=8, **STILL))
    assert minima[-1] == -1.0


def test_every_part_of_a_defense_is_called() -> None:
    calls: list[str] = []

    def tells(name: str) -> object:
        return lambda model: calls.append(name) or model

    _train(_model(), defense=Defense("watch", prepare=tells("prepare"), after_step=tells("step"), export=tells("export")))
    assert calls == ["prepare", *["step"] * 4, "export"]


def test_images_are_crafted_once_in_a_step_however_often_its_loss_is_computed() -> None:
    crafted: list[torch.Tensor] = []
    shown: list[torch.Tensor] = []

    def craft(model: nn.Module, batch: Batch, draws: Draws) -> torch.Tensor:
        crafted.append((batch.images + 0.25 * draws.uniform(*batch.images.shape[1:])).clamp(0, 1))
        return crafted[-1]

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> torch.Tensor:
        shown.append(batch.shown)
        return model(batch.shown).sum()

    def twice(closure, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        closure()
        return closure()

    _train(_model(), defense=compose([Defense("noise", craft=craft, loss=loss), Defense("twice", step=twice)]))
    assert (len(crafted), len(shown)) == (4, 8)
    assert all(torch.equal(shown[i], crafted[i // 2]) for i in range(8))


def test_a_batch_tells_where_training_is() -> None:
    seen: list[TrainingStep] = []
    _train(_model(), defense=Defense("watch", batch=lambda batch, draws: seen.append(batch.progress) or batch))
    assert seen == [TrainingStep(step, 4, 2) for step in range(4)]


def test_progress_comes_after_every_epoch_with_the_model_to_keep() -> None:
    reports: list[EpochProgress] = []
    trained = _train(_model(), progress=reports.append)
    assert [(now.epoch, now.epochs) for now in reports] == [(1, 2), (2, 2)]
    assert tuple(now.loss for now in reports) == trained.losses
    assert reports[-1].model is trained.model


def test_the_trained_model_is_frozen_and_in_evaluation_mode() -> None:
    model = _train(_model()).model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_model_with_other_classes_is_refused_before_training() -> None:
    with pytest.raises(ModelError, match="has 3 classes, data 'levels' has 2"):
        _train(_model(outputs=3))


def test_a_loss_that_is_not_finite_ends_training() -> None:
    broken = Defense("broken", loss=lambda model, batch, draws: model(batch.images).sum() * float("nan"))
    with pytest.raises(ModelError, match="epoch 1"):
        _train(_model(), defense=broken)


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("batch_size", 0), ("lr", 0.0), ("lr", float("nan")), ("warmup", 1.0), ("scale", 1.0)]
)
def test_a_recipe_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(BadParameter, match=name):
        Recipe(**{name: value})  # type: ignore[arg-type]


def _batch(images: torch.Tensor) -> tuple[Batch, Draws]:
    ids = tuple(str(i) for i in range(len(images)))
    return Batch(images, torch.zeros(len(images), dtype=torch.int64), ids), Draws(0, "jitter", ids)


def test_a_jitter_of_nothing_returns_the_batch_itself() -> None:
    batch, draws = _batch(torch.rand(2, 3, 8, 8))
    assert jitter(batch, draws, Recipe(**STILL)) is batch


def test_jitter_leaves_a_flat_image_flat_and_its_argument_unchanged() -> None:
    batch, draws = _batch(torch.full((4, 3, 8, 8), 0.25))
    assert torch.allclose(jitter(batch, draws, Recipe()).images, batch.images)


def test_jitter_of_a_sample_does_not_depend_on_its_companions() -> None:
    batch, draws = _batch(torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    keep = torch.tensor([4, 1])
    whole, part = jitter(batch, draws, Recipe()).images[keep], jitter(batch[keep], draws[keep], Recipe()).images
    assert torch.equal(whole, part)


def test_jitter_stays_within_the_pixel_range() -> None:
    batch, draws = _batch(torch.ones(64, 3, 32, 32))
    assert float(jitter(batch, draws, Recipe(rotation=180, scale=0.5)).images.max()) <= 1.0


def test_jitter_moves_no_further_than_its_shift() -> None:
    images = torch.zeros(32, 3, 9, 9)
    images[:, :, 4, 4] = 1.0
    batch, draws = _batch(images)
    moved = jitter(batch, draws, Recipe(rotation=0, scale=0, shift=1 / 9)).images
    assert float(moved[:, :, 3:6, 3:6].sum(dim=(1, 2, 3)).min()) == pytest.approx(3.0, abs=1e-4)
