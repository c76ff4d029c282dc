"""Image classifiers of transformers, from a folder that a test wrote."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import robustvit as rv
from robustvit.errors import CheckpointMismatch, MissingExtra, ModelError, WeightsUnavailable
from robustvit.models import hf, hub
from robustvit.primitives.classifier import Classifier
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.model_address import parse_model
from robustvit.spec.spec import plain
from robustvit.spec.view import View
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec

transformers = pytest.importorskip("transformers", reason="transformers (the extra [hf]) is not installed")


def load(address: str) -> Classifier:
    spec = parse_model(address)
    entry = registry.lookup("model", spec.name)
    return entry.load()(**{key: plain(value) for key, value in bind(entry, spec).params})


@pytest.fixture(scope="module")
def classifier():
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, num_labels=7
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.ViTForImageClassification(config).eval()


@pytest.fixture
def folder(tmp_path, classifier):
    classifier.save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def test_logits_equal_those_of_transformers(folder, classifier):
    pixels = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        wanted = classifier(pixel_values=(pixels - 0.5) / 0.5).logits
    assert torch.allclose(load(f"hf/{folder}")(pixels), wanted, atol=1e-6)


def test_the_names_of_its_classes_are_those_of_its_configuration(folder):
    config = json.loads((folder / "config.json").read_text())
    names = {str(i): name for i, name in enumerate("gfedcba")}
    (folder / "config.json").write_text(json.dumps({**config, "id2label": names, "label2id": {name: int(i) for i, name in names.items()}}))
    assert load(f"hf/{folder}").card.classes == tuple("gfedcba")


def test_a_checkpoint_of_it_is_loaded_by_its_path_alone(folder, tmp_path):
    model = rv.load_model(f"hf/{folder}")
    with torch.no_grad():
        model.model.classifier.classifier.bias += 1.0  # as after training
    model.identify()
    rv.save_checkpoint(model, tmp_path / "a.safetensors")
    loaded = rv.load_model(f"file:{tmp_path / 'a.safetensors'}")
    pixels = torch.rand(3, 3, 32, 32)
    assert torch.equal(loaded(pixels), model(pixels))
    assert (loaded.card.identity, loaded.card.fingerprint, loaded.view) == (model.card.identity, model.card.fingerprint, model.view)
    again = rv.transformed(loaded, "magnitude", amount=0.5)
    rv.save_checkpoint(again, tmp_path / "b.safetensors")
    assert torch.equal(rv.load_model(f"file:{tmp_path / 'b.safetensors'}")(pixels), again(pixels))


def test_training_starts_from_it(tmp_path):
    config = transformers.ViTConfig(image_size=32, patch_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_labels=10)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    recipe = Recipe(epochs=1, batch_size=640)
    done = train_from_spec(data="digits", start=f"hf/{tmp_path / 'vit'}", out=tmp_path / "a.safetensors", recipe=recipe)
    pixels = torch.rand(3, 3, 32, 32)
    assert torch.equal(rv.load_model(f"file:{tmp_path / 'a.safetensors'}")(pixels), done.model(pixels))
    assert not torch.equal(rv.load_model(f"hf/{tmp_path / 'vit'}")(pixels), done.model(pixels))


def test_an_image_gets_nearly_the_logits_that_transformers_gives_it(folder, classifier):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8))
    model = load(f"hf/{folder}")
    with torch.no_grad():
        wanted = classifier(**transformers.AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")).logits
    assert torch.allclose(model(model.preprocess(image)[None]), wanted, atol=2e-3)


def test_the_card_names_the_configuration_and_not_the_folder(folder, tmp_path):
    card = load(f"hf/{folder}").card
    folder.rename(tmp_path / "elsewhere")
    moved = load(f"hf/{tmp_path / 'elsewhere'}").card
    assert (card.identity, card.fingerprint) == (moved.identity, moved.fingerprint)
    assert card.label != moved.label


def test_a_setting_that_changes_the_computation_changes_the_identity(folder):
    card = load(f"hf/{folder}").card
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 3}))
    other = load(f"hf/{folder}").card
    assert other.fingerprint == card.fingerprint
    assert other.identity != card.identity


def test_the_preprocessing_can_be_set_by_hand(folder):
    model = load(f"hf/{folder}?mean=0.25&interpolation=box")
    assert model.card.identity.get("mean") == (0.25, 0.25, 0.25)
    assert model.view.interpolation == "box"


PROCESSORS = [
    ("ViTImageProcessor", {}, View((224, 224), None, "squash", "bilinear")),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}}, View((224, 224), 256, "center")),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}, View((384, 384), None, "squash")),
    ("CLIPImageProcessor", {}, View((224, 224), 224, "center")),
    ("DeiTImageProcessor", {}, View((224, 224), 256, "squash")),
    ("PoolFormerImageProcessor", {}, View((224, 224), 248, "center")),
]


@pytest.mark.parametrize(("name", "given", "view"), PROCESSORS)
def test_an_image_processor_becomes_a_view(name, given, view):
    inputs = hf.preprocessing_of(getattr(transformers, name)(**given), "a")
    assert (inputs.view.size, inputs.view.resize, inputs.view.crop) == (view.size, view.resize, view.crop)


def test_another_scale_of_pixels_becomes_part_of_the_normalisation():
    processor = transformers.ViTImageProcessor(rescale_factor=1 / 127.5, image_mean=[1.0] * 3, image_std=[0.5] * 3)
    inputs = hf.preprocessing_of(processor, "a")
    assert (inputs.mean, inputs.std) == (pytest.approx((0.5,) * 3), pytest.approx((0.25,) * 3))


@pytest.mark.parametrize("name", ["MobileViTImageProcessor", "LevitImageProcessor"])
def test_a_processor_that_does_something_else_is_refused(name):
    with pytest.raises(ModelError, match="cannot reproduce"):
        hf.preprocessing_of(getattr(transformers, name)(), "a")


def test_a_model_without_a_head_is_refused(folder, classifier):
    classifier.vit.save_pretrained(folder)
    with pytest.raises(CheckpointMismatch, match="classifier"):
        load(f"hf/{folder}")


def test_a_folder_without_a_processor_is_refused(folder):
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises((WeightsUnavailable, ModelError), match="vit"):
        load(f"hf/{folder}")


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(WeightsUnavailable, match="no such folder"):
        load(f"hf/{tmp_path / 'none'}")


def test_a_repository_out_of_reach_is_refused(monkeypatch):
    monkeypatch.setattr(hub, "responds", lambda url: False)
    with pytest.raises(WeightsUnavailable, match="cache"):
        load("hf/nobody/such-a-model")


def test_code_of_a_repository_is_never_run(folder):
    config = json.loads((folder / "config.json").read_text())
    custom = {**config, "model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
    (folder / "config.json").write_text(json.dumps(custom))
    (folder / "mine.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ModelError, match="without running its code"):
        load(f"hf/{folder}")


def test_without_transformers_the_extra_is_named(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(hf.importlib, "import_module", absent)
    with pytest.raises(MissingExtra, match=r"robustvit\[hf\]"):
        hf.hf_model(name="a/b")
