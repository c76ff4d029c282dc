"""Checkpoints of Classifiers: what is written is loaded by its path alone, to the bit, after the transforms that made it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import BadParameter, ModelError
from robustvit.models.checkpoint import read_about
from robustvit.models.demo import WEIGHTS
from robustvit.primitives.checkpoint import checkpoint_bytes
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import UpsampledClassifier, constructor_arguments
from robustvit.primitives.surgery.modules import changed
from robustvit.primitives.surgery.pipelines import apply_transform
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup, transform
from robustvit.spec.spec import Spec

VIT = "vit_tiny_patch16_224?weights=random&num_classes=5&kwargs=img_size=32,patch_size=8,embed_dim=24,depth=2,num_heads=2"
SWIN = (
    "swin_tiny_patch4_window7_224?weights=random&num_classes=5&kwargs=img_size=32,patch_size=2,embed_dim=16,depths=[2,1],num_heads=[2,2],"
    "window_size=4"
)
HVT = "arch/hvt?img_size=32&patch_size=4&dim=24&heads=2&depth=4&pool_width=2&num_classes=5"


def images(rows: int = 3) -> Tensor:
    return torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def transformed(model: Classifier, name: str, artifact: dict[str, Tensor] | None = None, **given: object) -> Classifier:
    return apply_transform(model, bind(lookup("transform", name), Spec(name).with_params(**given)), artifact=artifact)


class Shifted(nn.Module):
    """A module and a learned shift of its logits, in an attribute that no state dict has."""

    def __init__(self, inner: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self.inner, self.shifts = inner, [shift]

    def forward(self, pixels: Tensor) -> Tensor:
        return self.inner(pixels) + self.shifts[0]


def learn_shift(model, load_batch, draws, *, calibration):
    return {"shift": torch.ones(5)}


@pytest.fixture
def registered():
    """`widened`, which adds a layer after the logits, and `shifted`, which learns; until the end of the test."""
    before = dict(registry._LIVE)

    def widened(model: Classifier, *, by: float = 1.0) -> Classifier:
        return changed(model, lambda module: nn.Sequential(module, nn.Linear(5, 5)))

    def shifted(model: Classifier, artifact: dict[str, Tensor], *, calibration: rv.Data, by: float = 1.0) -> Classifier:
        return changed(model, lambda module: Shifted(module, by * artifact["shift"]))

    def fitting(model: Classifier) -> Classifier:
        return changed(model, lambda module: nn.Sequential(module, nn.Linear(10, 10 + int(bool(module.head.bias.any())))))

    def compared(model: Classifier, *, with_: rv.Data | None = None) -> Classifier:
        return changed(model, lambda module: nn.Sequential(module))

    def by_weights(model: Classifier) -> Classifier:
        return changed(model, lambda module: nn.Sequential(module, nn.Linear(10, 10)) if bool(module.norm.bias.any()) else module)

    transform(name="by_weights")(by_weights)
    transform(name="widened", version=3)(widened)
    transform(name="shifted", fit="learn_shift", passes=("by",))(shifted)
    transform(name="compared")(compared)
    transform(name="fitting")(fitting)
    yield
    registry._LIVE.clear()
    registry._LIVE.update(before)


@pytest.mark.parametrize("address", ["demo", VIT, SWIN, HVT])
def test_a_model_is_loaded_as_it_was_saved(tmp_path: Path, address: str) -> None:
    model, file = rv.load_model(address), tmp_path / "a.safetensors"
    rv.save_checkpoint(model, file)
    loaded = rv.load_model(f"file:{file}")
    assert torch.equal(loaded(images()), model(images()))
    assert (loaded.view, loaded.card.fingerprint, loaded.card.weights) == (model.view, model.card.fingerprint, "checkpoint")
    assert loaded.card.identity.without("mean").without("std") == model.card.identity.without("mean").without("std").without("weights")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("address", [VIT, SWIN, HVT])
def test_transforms_are_applied_before_the_weights_are_loaded(tmp_path: Path, address: str) -> None:
    file = tmp_path / "a.safetensors"
    model = transformed(transformed(rv.load_model(address), "attention_temperature", temperature=2), "widened", by=0.5)
    with torch.no_grad():
        model.model[1].weight.mul_(3)
    rv.save_checkpoint(model.identify(), file)
    loaded = rv.load_model(f"file:{file}")
    assert torch.equal(loaded(images()), model(images()))
    assert loaded.card.transforms == ()
    assert loaded.card.notes["transforms"] == "attention_temperature(temperature=2), then widened(by=0.5)"
    assert loaded.card.fingerprint == model.card.fingerprint
    assert loaded.gradient == model.gradient
    assert read_about(file).surgery == model.card.transforms


@pytest.mark.usefixtures("registered")
def test_a_loaded_model_can_be_transformed_and_saved_again(tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    rv.save_checkpoint(transformed(rv.load_model(VIT), "widened"), first)
    model = transformed(rv.load_model(f"file:{first}"), "attention_temperature", temperature=2)
    rv.save_checkpoint(model, second)
    assert [spec.name for spec in read_about(second).surgery] == ["widened", "attention_temperature"]
    assert torch.equal(rv.load_model(f"file:{second}")(images()), model(images()))
    rv.save_checkpoint(rv.load_model(f"file:{second}"), tmp_path / "c.safetensors")
    assert (tmp_path / "c.safetensors").read_bytes() == second.read_bytes()


@pytest.mark.usefixtures("registered")
def test_what_a_transform_learned_is_in_the_file_and_in_the_identity(tmp_path: Path) -> None:
    cards = []
    for number in (1.0, 2.0):
        learned = {"shift": torch.arange(5, dtype=torch.float64) * number / 3}
        model = transformed(rv.load_model(VIT), "shifted", learned, calibration="digits")
        file = tmp_path / f"{number}.safetensors"
        rv.save_checkpoint(model, file)
        loaded = rv.load_model(f"file:{file}")
        assert torch.equal(loaded(images()), model(images()))
        assert torch.equal(loaded.learned[0]["shift"], learned["shift"])
        cards.append(loaded.card)
    assert cards[0].fingerprint == cards[1].fingerprint  # the module keeps it outside its state
    assert cards[0].identity != cards[1].identity


@pytest.mark.usefixtures("registered")
def test_the_identity_has_the_transforms(tmp_path: Path) -> None:
    made = []
    for temperature in (1, 2):
        rv.save_checkpoint(transformed(rv.load_model(VIT), "attention_temperature", temperature=temperature), tmp_path / "a.safetensors")
        made.append(rv.load_model(f"file:{tmp_path / 'a.safetensors'}").card)
    assert made[0].fingerprint == made[1].fingerprint
    assert made[0].identity != made[1].identity
    assert [(spec.name, spec.get("temperature")) for spec in made[0].identity.get("surgery")] == [("attention_temperature", 1)]


def test_half_precision_is_the_rounded_model(tmp_path: Path) -> None:
    model, file = rv.load_model(VIT), tmp_path / "a.safetensors"
    rv.save_checkpoint(model, file, stored="float16")
    loaded = rv.load_model(f"file:{file}").model.state_dict()
    assert all(torch.equal(loaded[name], tensor.half().float()) for name, tensor in model.model.state_dict().items())


@pytest.mark.parametrize("name", ["demo", "demo-ablations"])
def test_a_file_without_transforms_has_the_bytes_that_it_always_had(name: str) -> None:
    file = WEIGHTS / f"{name}.safetensors"
    assert checkpoint_bytes(rv.load_model(f"file:{file}").model, read_about(file)) == file.read_bytes()


def test_the_header_of_an_architecture_has_its_version(tmp_path: Path) -> None:
    rv.save_checkpoint(rv.load_model(HVT), tmp_path / "a.safetensors")
    about = read_about(tmp_path / "a.safetensors")
    assert (about.arch, about.version, about.num_classes) == ("arch/hvt", 1, 5)
    assert about.kwargs == "depth=4,dim=24,heads=2,img_size=32,patch_size=4,pool_width=2"
    assert read_about(WEIGHTS / "demo.safetensors").version is None


class Doubled(Classifier):
    def forward(self, pixels: Tensor) -> Tensor:
        return 2 * super().forward(pixels)


def of_own_code() -> Classifier:
    model = rv.load_model(VIT)
    return Classifier(**constructor_arguments(model) | {"card": replace(model.card, identity=Spec("factory").with_params(target="a:b"))})


def of_own_class() -> Classifier:
    return Doubled(**constructor_arguments(rv.load_model(VIT)))


def changed_by_hand() -> Classifier:
    model = rv.load_model(VIT)
    model.model.blocks[0].mlp.act = nn.ReLU()
    return model


def with_another_head() -> Classifier:
    model = rv.load_model(VIT)
    model.model.head = nn.Linear(24, 7)
    return model


def with_packed_weights() -> Classifier:
    model = rv.load_model(VIT)
    model.model.register_buffer("packed", torch.quantize_per_tensor(torch.ones(3), 1.0, 0, torch.qint8))
    return model


def with_code_of_a_transform() -> Classifier:
    model = rv.load_model(VIT)
    model.card = replace(model.card, transforms=(Spec("mine:halved", (), "transform", 1),))
    return model


def upsampled() -> Classifier:
    return UpsampledClassifier(rv.load_model(VIT), rv.load_model(VIT).view.with_scenario_size(16))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(("make", "message"), [
    (of_own_code, r"code that a file does not name \(factory\); register its architecture with @rv.model\(name='arch/NAME'\)"),
    (of_own_class, r"code that a file does not name \(Doubled\)"), (upsampled, r"does not name \(UpsampledClassifier\)"),
    (changed_by_hand, "do not give its logits: it was changed by hand"),
    (with_another_head, r"head.weight is \(7, 24\), the model's \(5, 24\)"),
    (with_packed_weights, "'packed' is a Tensor of packed numbers"), (lambda: rv.load_model(VIT).double(), "not all of float32"),
    (with_code_of_a_transform, "'mine:halved', in its transform 'mine:halved', is code of your own"),
])  # fmt: skip
def test_what_could_not_be_rebuilt_is_not_written(tmp_path: Path, make, message: str) -> None:
    with pytest.raises(ModelError, match=message) as refusal:
        rv.save_checkpoint(make(), tmp_path / "a.safetensors")
    assert "cannot be saved as a.safetensors" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("registered")
def test_a_transform_that_was_applied_with_data_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="applied with 'with_', which a checkpoint does not hold"):
        rv.save_checkpoint(transformed(rv.load_model(VIT), "compared", with_="digits"), tmp_path / "a.safetensors")
    rv.save_checkpoint(transformed(rv.load_model(VIT), "compared"), tmp_path / "a.safetensors")


@pytest.mark.usefixtures("registered")
def test_shapes_that_depend_on_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"that its transforms leave depend on the weights, .*1.weight is \(11, 10\), the model"):
        rv.save_checkpoint(transformed(rv.load_model("demo"), "fitting"), tmp_path / "a.safetensors")


@pytest.mark.parametrize("pipeline", [
    "static_int8(calibration=digits?split=train,samples=16)", "evit+simulated_quantisation(calibration=digits?split=train,samples=16)",
    "tome(r=2)+dynamic_int8+attention_temperature(temperature=2)", "magnitude(amount=0.5)+evit+magnitude(amount=0.7)",
    "head_pruning(amount=0.5)+low_rank(rank_share=0.5)", "head_pruning(amount=0.5,scope=global)+low_rank(budget=0.6)+magnitude",
])  # fmt: skip
def test_pipelines_of_an_address_are_loaded_as_they_were_saved(tmp_path: Path, pipeline: str) -> None:
    model = rv.load_model(f"demo+{pipeline}")
    rv.save_checkpoint(model, tmp_path / "a.safetensors")
    loaded = rv.load_model(f"file:{tmp_path / 'a.safetensors'}")
    assert torch.equal(loaded(images()), model(images()))
    assert loaded.card.identity.get("surgery") == model.card.transforms
    again = rv.transformed(loaded, "attention_temperature", temperature=3)
    rv.save_checkpoint(again, tmp_path / "b.safetensors")
    assert torch.equal(rv.load_model(f"file:{tmp_path / 'b.safetensors'}")(images()), again(images()))


@pytest.mark.usefixtures("registered")
def test_what_was_learned_must_be_with_the_model(tmp_path: Path) -> None:
    model = transformed(rv.load_model(VIT), "shifted", {"shift": torch.ones(5)}, calibration="digits")
    lost = Classifier(**constructor_arguments(model))
    with pytest.raises(ModelError, match="what its transform 'shifted' learned is not with it"):
        rv.save_checkpoint(lost, tmp_path / "a.safetensors")


@pytest.mark.parametrize(("name", "stored", "message"), [
    ("a.pth", "float32", "a.pth is no name for a checkpoint; it ends in .safetensors"),
    ("new/a.safetensors", "float32", "there is no folder"),
    ("folder.safetensors", "float32", "is a folder"), ("a.safetensors", "int8", "stored is 'int8'; it takes float32 or float16"),
    ("a\0.safetensors", "float32", "NUL"), (3, "float32", "takes a path"),
])  # fmt: skip
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, name, stored: str, message: str) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(BadParameter, match=message):
        rv.save_checkpoint(rv.load_model(VIT), str(tmp_path / name) if isinstance(name, str) else name, stored=stored)


def test_a_refused_model_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_text("the old one")
    with pytest.raises(ModelError):
        rv.save_checkpoint(changed_by_hand(), tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_text() == "the old one"


def test_the_tensors_are_those_of_the_module(tmp_path: Path) -> None:
    model = rv.load_model(VIT)
    rv.save_checkpoint(model, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(model.model.state_dict())


def test_a_calibrated_model_that_was_saved_is_not_evaluated_on_what_it_was_calibrated_on(tmp_path: Path) -> None:
    file, suite = tmp_path / "a.safetensors", tmp_path / "t.yaml"
    calibrated = rv.transformed(rv.load_model("demo"), "static_int8", calibration="digits?part=calibration", samples=16)
    rv.save_checkpoint(calibrated, file)
    suite.write_text("{name: t, title: t, data: 'digits?part=calibration', scenarios: [clean], metrics: [top1]}")
    with pytest.raises(BadParameter, match="'a', which was calibrated before it was saved, learned of 16 images that 'a'"):
        rv.run(suite, [f"file:{file}"], store=tmp_path / "s", limit=40)
    suite.write_text(suite.read_text().replace("calibration", "evaluation"))
    assert not rv.run(suite, [f"file:{file}"], store=tmp_path / "s", limit=40).failed
    rv.save_checkpoint(rv.load_model(f"file:{file}"), tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == file.read_bytes(), "also what is saved again"
