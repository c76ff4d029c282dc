import pytest
import torch
from torch import nn

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense, compose
from robustvit.primitives.draws import Draws


def _batch() -> Batch:
    return Batch(torch.full((2, 3, 4, 4), 0.5), torch.tensor([0, 1]), ("a", "b"))


def _brighter(by: float) -> Defense:
    return Defense(f"by {by}", batch=lambda batch, draws: batch.with_images(batch.images * by))


def _model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 2, bias=False))


def test_a_defense_without_parts_is_cross_entropy_and_one_step() -> None:
    model, batch = _model(), _batch()
    loss = Defense("none").loss(model, batch, Draws(0, "loss", batch.ids))
    expected = torch.nn.functional.cross_entropy(model(batch.images), batch.labels)
    assert torch.equal(loss, expected)


def test_a_defense_knows_which_parts_it_sets() -> None:
    only_a_loss = Defense("zero", loss=lambda model, batch, draws: torch.zeros(()))
    assert only_a_loss.sets("loss")
    assert not only_a_loss.sets("step")


def test_batches_are_changed_in_the_order_given() -> None:
    def add(batch: Batch, draws: Draws) -> Batch:
        return batch.with_images(batch.images + 0.1)

    both = compose([_brighter(0.5), Defense("add", batch=add)])
    changed = both.batch(_batch(), Draws(0, "batch", ("a", "b")))
    assert changed.images.unique().tolist() == pytest.approx([0.35])


def test_each_composed_defense_draws_its_own_numbers() -> None:
    numbers = []

    def record(batch: Batch, draws: Draws) -> Batch:
        numbers.append(draws.words(1)[0, 0].item())
        return batch

    compose([Defense("one", batch=record), Defense("two", batch=record)]).batch(_batch(), Draws(0, "batch", ("a", "b")))
    assert numbers[0] != numbers[1]


def test_models_are_prepared_in_order_and_exported_in_reverse() -> None:
    def wraps(name: str) -> Defense:
        def wrap(model: nn.Module) -> nn.Module:
            calls.append(name)
            return model

        return Defense(name, prepare=wrap, export=wrap)

    calls: list[str] = []
    both = compose([wraps("a"), wraps("b")])
    both.export(both.prepare(_model()))
    assert calls == ["a", "b", "b", "a"]


def test_every_after_step_is_called() -> None:
    calls: list[str] = []
    compose([Defense(name, after_step=lambda model, name=name: calls.append(name)) for name in "abc"]).after_step(_model())
    assert calls == ["a", "b", "c"]


def test_a_single_loss_and_a_single_step_are_kept_in_composition() -> None:
    loss = Defense("seven", loss=lambda model, batch, draws: torch.tensor(7.0))
    step = Defense("lazy", step=lambda closure, optimizer: closure())
    whole = compose([step, loss, Defense("nothing")])
    assert whole.loss is loss.loss
    assert whole.step is step.step


@pytest.mark.parametrize("part", ["loss", "step"])
def test_two_defenses_with_the_same_only_part_are_refused_by_name(part: str) -> None:
    first, second = (Defense(name, **{part: lambda *given: torch.zeros(())}) for name in ("trades", "mart"))
    with pytest.raises(BadParameter, match=f"'trades' and 'mart' both set the {part}"):
        compose([first, second])


def test_no_defense_at_all_is_refused() -> None:
    with pytest.raises(BadParameter, match="such as plain"):
        compose([])
