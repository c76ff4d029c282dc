from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robustvit.errors import BadParameter, CheckpointMismatch, ModelError, UnknownName
from robustvit.evaluation.loading import load_data, load_model
from robustvit.primitives.checkpoint import About
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.modules import changed
from robustvit.spec import registry
from robustvit.training.loop import EpochProgress
from robustvit.training.output import partial_of
from robustvit.training.recipe import Recipe
from robustvit.training.run import TrainResult, accuracy, command, train_from_spec

KWARGS = "img_size=32,patch_size=16,embed_dim=8,depth=1,num_heads=1"
ADDRESS = f"vit_tiny_patch16_224?weights=random&num_classes=10&crop_pct=1&kwargs={KWARGS}"
SHORT = Recipe(epochs=1, batch_size=640)  # two steps


def _run(out: Path, model: str = ADDRESS, data: str = "digits", **options: object) -> TrainResult:
    named = None if "start" in options else model
    return train_from_spec(named, data, out=out, **{"recipe": SHORT, **options})  # type: ignore[arg-type]


def test_the_same_command_leaves_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    for folder in (tmp_path, tmp_path / "again"):
        _run(folder / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "again" / "a.safetensors").read_bytes()


def test_the_file_is_loaded_by_its_path_alone_and_gives_the_same_logits(tmp_path: Path) -> None:
    trained = _run(tmp_path / "a.safetensors").model
    loaded = load_model(f"file:{tmp_path / 'a.safetensors'}")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert loaded.view == trained.view
    assert torch.equal(loaded(images), trained(images))


def test_the_accuracy_is_that_of_the_stored_weights(tmp_path: Path) -> None:
    reported = _run(tmp_path / "a.safetensors").accuracy
    assert reported == accuracy(load_model(f"file:{tmp_path / 'a.safetensors'}"), load_data("digits"))


def test_nothing_but_the_checkpoint_is_left(tmp_path: Path) -> None:
    _run(tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_ctrl_c_leaves_the_last_whole_epoch_and_names_its_file(tmp_path: Path) -> None:
    def stop(now: EpochProgress) -> None:
        if now.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"after epoch 1 of 3.*a\.partial\.safetensors"):
        _run(tmp_path / "a.safetensors", recipe=Recipe(epochs=3, batch_size=640), progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial.safetensors"]
    assert load_model(f"file:{tmp_path / 'a.partial.safetensors'}").size == (32, 32)


def test_a_checkpoint_that_was_there_survives_an_interrupted_run(tmp_path: Path) -> None:
    def stop(now: EpochProgress) -> None:
        raise KeyboardInterrupt

    (tmp_path / "a.safetensors").write_text("the old one")
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "a.safetensors", progress=stop)
    assert (tmp_path / "a.safetensors").read_text() == "the old one"


@pytest.mark.parametrize(("out", "message"), [("a.pth", "ends in .safetensors"), ("file/a.safetensors", "cannot be written")])
def test_a_path_that_cannot_be_written_is_refused_before_training(tmp_path: Path, out: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadParameter, match=message):
        _run(tmp_path / out)


def test_the_folder_of_a_checkpoint_is_made(tmp_path: Path) -> None:
    assert partial_of(tmp_path / "new/deep/a.safetensors").parent.is_dir()


def test_a_model_with_other_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"num_classes=7.*has 7 classes, data 'digits' has 10"):
        _run(tmp_path / "a.safetensors", ADDRESS.replace("=10&", "=7&"))


HVT = "arch/hvt?num_classes=10&img_size=32&patch_size=8&dim=8&heads=1&depth=2"


@pytest.mark.parametrize("stored", ["float16", "float32"])
def test_a_registered_architecture_is_trained_and_loaded_by_the_path_alone(tmp_path: Path, stored: str) -> None:
    trained = _run(tmp_path / "a.safetensors", HVT, stored=stored)
    loaded = load_model(f"file:{tmp_path / 'a.safetensors'}")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(images), trained.model(images))
    assert trained.accuracy == accuracy(loaded, load_data("digits"))
    assert loaded.card.fingerprint != load_model(HVT).card.fingerprint
    assert (loaded.card.identity.name, loaded.card.weights) == ("arch/hvt", "checkpoint")


def test_training_goes_on_from_a_checkpoint_of_an_architecture(tmp_path: Path) -> None:
    _run(tmp_path / "a.safetensors", HVT)
    _run(tmp_path / "b.safetensors", start=f"file:{tmp_path / 'a.safetensors'}")
    first, second = (load_model(f"file:{tmp_path / name}.safetensors") for name in "ab")
    assert first.card.fingerprint != second.card.fingerprint


OWN = """
import robustvit as rv
import torch
from torch import nn

def whole():
    return rv.load_model("demo")

def bare():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 10))

class Empty(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :10]

class Blind(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = bare()

    @torch.no_grad()
    def forward(self, images):
        return self.inner(images)
"""


@pytest.fixture
def own_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_net.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("own_net")
@pytest.mark.parametrize("address", ["own_net:whole", "own_net:bare?mean=0.5&std=0.5&img_size=8", "own_net:whole+magnitude(amount=0.5)"])
def test_the_weights_of_code_of_ones_own_are_loaded_by_its_address(tmp_path: Path, address: str) -> None:
    trained = _run(tmp_path / "a.safetensors", start=address).model
    subject = address.partition("+")[0]
    sign = "&" if "?" in subject else "?"
    loaded = load_model(f"{subject}{sign}weights={tmp_path / 'a.safetensors'}")
    images = torch.rand(4, 3, *trained.size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(images), trained(images))
    assert loaded.card.fingerprint == trained.card.fingerprint
    with pytest.raises(ModelError, match=r"it holds weights for 'own_net:.*', which is code that a file does not run; load own_net:"):
        load_model(f"file:{tmp_path / 'a.safetensors'}")
    again = _run(tmp_path / "b.safetensors", start=f"{subject}{sign}weights={tmp_path / 'a.safetensors'}").model
    assert torch.equal(load_model(f"{subject}{sign}weights={tmp_path / 'b.safetensors'}")(images), again(images))


@pytest.mark.usefixtures("own_net")
@pytest.mark.parametrize(("address", "message"), [
    ("own_net:Empty?mean=0.5&std=0.5&img_size=8", "the Empty has no parameter: there is nothing to train"),
    ("own_net:Blind?mean=0.5&std=0.5&img_size=8", "the loss has no gradient: the model computes its logits without a graph"),
    ("own_net:bare?mean=0.5&std=0.5&img_size=32", r"does not compute on images of 32x32 pixels, .*Give its address the size"),
])  # fmt: skip
def test_a_model_that_cannot_be_trained_is_refused_in_one_line(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as refusal:
        _run(tmp_path / "a.safetensors", start=address)
    assert "\n" not in str(refusal.value)


@pytest.mark.usefixtures("own_net")
def test_weights_of_another_model_are_refused_by_code_of_ones_own(tmp_path: Path) -> None:
    _run(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointMismatch, match=r"a.safetensors does not fit"):
        load_model(f"own_net:whole?weights={tmp_path / 'a.safetensors'}")


@pytest.mark.parametrize(("options", "message"), [
    ({"start": ADDRESS}, "has random weights, from which nothing goes on; give it as --model"),
    ({"model": "demo"}, "model 'demo' has bundled weights; to train it further, give it as --from"),
    ({"model": None}, "takes either a model with random weights"),
])  # fmt: skip
def test_a_model_with_weights_and_one_without_are_told_apart(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        _run(tmp_path / "a.safetensors", **options)
    assert not list(tmp_path.iterdir())


def test_a_pruned_model_is_trained_with_its_masks_and_loaded_by_the_path_alone(tmp_path: Path) -> None:
    trained = _run(tmp_path / "a.safetensors", f"{ADDRESS}+magnitude(amount=0.5)").model
    loaded = load_model(f"file:{tmp_path / 'a.safetensors'}")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(images), trained(images))
    weight = loaded.model.blocks[0].mlp.fc1.weight
    assert 0.3 < float((weight == 0).float().mean()) < 0.7
    assert [spec.name for spec in loaded.card.identity.get("surgery")] == ["magnitude"]


def test_a_pipeline_whose_shapes_no_file_could_name_is_refused_before_training(tmp_path: Path) -> None:
    def by_weights(model: Classifier) -> Classifier:
        return changed(model, lambda module: nn.Sequential(module, nn.Linear(10, 10)) if bool(module.norm.bias.any()) else module)

    registry.transform(name="by_weights")(by_weights)
    with pytest.raises(BadParameter, match="could not be loaded again from its checkpoint: the shapes that its transforms leave depend"):
        _run(tmp_path / "a.safetensors", start="demo+by_weights")
    assert not list(tmp_path.iterdir())


def test_a_model_that_computes_more_than_its_module_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="an AttentionTemperature, which computes more than its module"):
        _run(tmp_path / "a.safetensors", start="demo+attention_temperature(temperature=2)")


def test_an_unknown_defense_raises_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="plain"):
        _run(tmp_path / "a.safetensors", defenses=["plian"])


def test_a_defense_takes_parameters(tmp_path: Path) -> None:
    first, second = (_run(tmp_path / "a.safetensors", defenses=[f"plain?smoothing={share}"]).losses for share in (0, 0.5))
    assert first != second


def test_naming_the_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="leave split out"):
        _run(tmp_path / "a.safetensors", data="digits?split=test")


def test_the_command_names_only_what_is_not_the_default() -> None:
    short = command(("--model", "m"), "digits", "a.safetensors", defenses=["plain"], recipe=Recipe(epochs=3), seed=0, stored="float16")
    assert short == "robustvit train --model m --data digits --defense plain --epochs 3 --seed 0 --out a.safetensors"
    long = command(("--from", "m?x=1&y=2"), "d", "a", defenses=["plain"], recipe=Recipe(epochs=3, lr=0.1), seed=1, stored="float32")
    assert long.startswith("robustvit train --from 'm?x=1&y=2' --data d")
    assert "--lr 0.1 --stored float32" in long


def test_the_checkpoint_stores_the_command_that_trained_it(tmp_path: Path) -> None:
    from robustvit.models.checkpoint import read_about

    _run(tmp_path / "a.safetensors")
    about: About = read_about(tmp_path / "a.safetensors")
    assert about.command.startswith(f"robustvit train --model '{ADDRESS}' --data digits --defense plain --epochs 1 --seed 0")


def test_the_checkpoint_names_the_classes_that_the_data_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(tmp_path / "numbers.safetensors")
    digits, names = load_data("digits"), tuple("abcdefghij")
    monkeypatch.setattr("robustvit.evaluation.loading.load_data", lambda *_, **__: replace(digits, classes=names))
    _run(tmp_path / "names.safetensors")
    found = [load_model(f"file:{tmp_path / name}.safetensors").card.classes for name in ("numbers", "names")]
    assert found == [(), names]
