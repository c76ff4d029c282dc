import pytest
import torch
from torch import nn

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch, TrainingStep
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


def test_penalties_add_up_and_draw_their_own_numbers() -> None:
    streams: list[str] = []

    def worth(name: str, value: float) -> Defense:
        def penalty(model: nn.Module, batch: Batch, draws: Draws) -> torch.Tensor:
            streams.append(draws.stream)
            return torch.tensor(value)

        return Defense(name, penalty=penalty)

    loss = Defense("seven", loss=lambda model, batch, draws: torch.tensor(7.0))
    whole = compose([worth("a", 0.5), loss, worth("b", 0.25)])
    assert float(whole.objective(_model(), _batch(), Draws(0, "s", ("a", "b")))) == 7.75
    assert streams == ["s/penalty/a", "s/penalty/b"]
    assert not compose([loss, Defense("nothing")]).sets("penalty"), "a plain loop computes no zero"


def test_every_part_has_its_own_state_also_in_a_composition_of_compositions() -> None:
    first, second, third = (Defense(name) for name in "abc")
    first.state["delta"] = torch.ones(1)
    whole = compose([compose([first, second]), third])
    assert list(whole.states) == ["a", "b", "c"]
    assert whole.states["a"] is first.state
    assert first.states == {"a": first.state}


def test_a_defense_that_is_named_twice_is_refused() -> None:
    with pytest.raises(BadParameter, match="'a' is named twice"):
        compose([Defense("a"), Defense("b"), Defense("a")])


def test_the_crafting_mode_is_that_of_the_one_that_crafts() -> None:
    crafts = Defense("fast", craft=lambda model, batch, draws: batch.images, crafting="train")
    assert compose([Defense("a"), crafts]).crafting == "train"


def test_the_default_loss_is_of_crafted_images_and_soft_labels_where_there_are_any() -> None:
    model, batch = _model(), _batch()
    soft = torch.tensor([[0.3, 0.7], [0.5, 0.5]])
    changed = batch.with_soft_labels(soft).with_crafted(batch.images * 0.5)
    loss = Defense("none").loss(model, changed, Draws(0, "loss", batch.ids))
    expected = -(soft * model(batch.images * 0.5).log_softmax(dim=1)).sum(dim=1).mean()
    assert torch.allclose(loss, expected)


def test_rows_and_parts_of_a_batch_keep_all_that_training_adds() -> None:
    soft, crafted = torch.rand(2, 2), torch.rand(2, 3, 4, 4)
    batch = _batch().with_soft_labels(soft).with_crafted(crafted).at(TrainingStep(3, 10, 5))
    (last,) = (batch[torch.tensor([False, True])],)
    for one in (last, list(batch.chunks(1))[1]):
        assert torch.equal(one.soft_labels, soft[1:])
        assert torch.equal(one.crafted, crafted[1:])
        assert (one.ids, one.progress) == (("b",), TrainingStep(3, 10, 5))


def test_the_place_of_training() -> None:
    assert [TrainingStep(step, 10, 5).epoch for step in range(10)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [TrainingStep(step, 10, 5).ramp(2) for step in (0, 1, 2, 4, 9)] == [0.0, 0.25, 0.5, 1.0, 1.0]
    assert (TrainingStep().done, TrainingStep().ramp(3), TrainingStep(0, 10).ramp(0)) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("part", ["craft", "loss", "step"])
def test_two_defenses_with_the_same_only_part_are_refused_by_name(part: str) -> None:
    first, second = (Defense(name, **{part: lambda *given: torch.zeros(())}) for name in ("trades", "mart"))
    with pytest.raises(BadParameter, match=f"'trades' and 'mart' both set the {part}"):
        compose([first, second])


def test_no_defense_at_all_is_refused() -> None:
    with pytest.raises(BadParameter, match="such as plain"):
        compose([])
