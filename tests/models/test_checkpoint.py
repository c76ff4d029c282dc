"""Checkpoints: tensors of a file in an architecture of timm."""

from __future__ import annotations

import argparse
import os
import re

import pytest
import timm
import torch
from safetensors.torch import save_file

from robustvit.errors import BadParameter, CheckpointMismatch, ModelError, WeightsUnavailable
from robustvit.models.checkpoint import load_tensors
from robustvit.primitives.checkpoint import About, checkpoint_bytes
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import fingerprint
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.model_address import parse_model
from robustvit.spec.spec import plain

SHAPE = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
KWARGS = ",".join(f"{key}={value}" for key, value in SHAPE.items())
ASK = f"arch=vit_tiny_patch16_224&kwargs={KWARGS}&num_classes=7"


@pytest.fixture(scope="module")
def module() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("vit_tiny_patch16_224", num_classes=7, **SHAPE)


def load(address: str) -> Classifier:
    spec = parse_model(address)
    entry = registry.lookup("model", spec.name)
    return entry.load()(**{key: plain(value) for key, value in bind(entry, spec).params})


@pytest.fixture
def saved(tmp_path, module):
    """Saves something under a name and returns its address."""

    def save(name: str, value=None, query: str = ASK, **metadata) -> str:
        state = module.state_dict() if value is None else value
        if name.endswith(".safetensors"):
            save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / name, **metadata)
        else:
            torch.save(state, tmp_path / name)
        return f"file:{tmp_path / name}?{query}" if query else f"file:{tmp_path / name}"

    return save


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.pt", "a.bin", "a.ckpt", "a.pth.tar"])
def test_every_kind_of_file_gives_the_same_weights(saved, module, name):
    assert load(saved(name)).card.fingerprint == fingerprint(module)


@pytest.mark.parametrize("nest", ["state_dict", "model", "model_ema", "state_dict_ema", "net", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_nests_and_prefixes_are_removed(saved, module, nest, prefix):
    state = {prefix + key: value for key, value in module.state_dict().items()}
    assert load(saved("a.pth", {nest: state, "epoch": 3, "args": argparse.Namespace(lr=1.0)})).card.fingerprint == fingerprint(module)


def test_averaged_weights_come_before_plain_ones(saved, module):
    other = {key: value + 1 for key, value in module.state_dict().items()}
    assert load(saved("a.pth", {"state_dict": other, "state_dict_ema": module.state_dict()})).card.fingerprint == fingerprint(module)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(saved, module, dtype):
    model = load(saved("a.safetensors", {key: value.to(dtype) for key, value in module.state_dict().items()}))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.model.state_dict()["head.weight"], module.state_dict()["head.weight"].to(dtype).float())


def test_the_card_keeps_the_tag_that_the_address_names(saved):
    card = load(saved("a.safetensors", query=ASK.replace("vit_tiny_patch16_224", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"))).card
    assert card.tag == "augreg_in21k_ft_in1k"
    assert card.identity.get("arch") == "vit_tiny_patch16_224"


def test_identity_is_the_same_for_another_path_name_and_spelling(saved):
    one = load(saved("a.safetensors")).card
    two = load(saved("b.pth", query=f"arch=vit_ti16&kwargs={','.join(reversed(KWARGS.split(',')))}&num_classes=7&mean=0.5")).card
    assert (one.identity, one.fingerprint) == (two.identity, two.fingerprint)
    assert one.label != two.label


def test_identity_leaves_the_tag_out(saved):
    card = load(saved("a.pth", query=ASK.replace("224&", "224.augreg_in21k&"))).card
    assert card.identity.get("arch") == "vit_tiny_patch16_224"


def test_the_card_says_what_the_file_does_not(saved):
    assert set(load(saved("a.pth")).card.notes) >= {"normalisation", "view"}
    assert not {"normalisation", "view"} & set(load(saved("a.pth", query=ASK + "&mean=0.5&std=0.5&crop_pct=1")).card.notes)


def test_a_header_makes_the_path_enough(saved, module):
    view = {"size": [32, 32], "resize": 32, "crop": "center", "interpolation": "bilinear"}
    about = About("vit_tiny_patch16_224", KWARGS, 7, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), view)
    model = load(saved("a.safetensors", query="", metadata=about.header()))
    assert model.card.fingerprint == fingerprint(module)
    assert model.view.as_dict() == {**view, "size": (32, 32)}
    assert model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_a_header_names_the_classes(saved):
    about = About("vit_tiny_patch16_224", KWARGS, 7, classes=tuple("abcdefg"))
    assert load(saved("a.safetensors", query="", metadata=about.header())).card.classes == tuple("abcdefg")
    assert '"classes"' not in About("vit_tiny_patch16_224", KWARGS, 7).header()["robustvit"]


def test_the_address_comes_before_the_header(saved):
    about = About("vit_tiny_patch16_224", KWARGS, 7, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    model = load(saved("a.safetensors", query="mean=0.5&interpolation=box", metadata=about.header()))
    assert model.card.identity.get("mean") == (0.5, 0.5, 0.5)
    assert model.card.identity.get("std") == (0.5, 0.6, 0.7)
    assert model.view.interpolation == "box"


@pytest.mark.parametrize(
    "header", ["{", '{"arc": 3}', '{"arch": "vit_ti16", "view": {"resize": 3}}', "[1]", '{"arch": 3}', '{"kwargs": "depth"}']
)
def test_a_header_that_is_not_as_written_is_refused(saved, header):
    with pytest.raises(ModelError, match="header"):
        load(saved("a.safetensors", query="", metadata={"robustvit": header}))


def test_a_file_that_does_not_say_its_architecture_asks_for_it(saved):
    with pytest.raises(BadParameter, match=r"arch=NAME"):
        load(saved("a.safetensors", query=""))


def test_another_number_of_classes_is_refused_with_the_way_out(saved):
    with pytest.raises(CheckpointMismatch, match=r"head.weight is \(7, 24\), the model's \(1000, 24\).*num_classes=7"):
        load(saved("a.pth", query=ASK.replace("&num_classes=7", "")))


def test_another_image_size_is_refused_and_never_resampled(saved):
    with pytest.raises(CheckpointMismatch, match=r"pos_embed is \(1, 17, 24\), the model's \(1, 65, 24\).*img_size"):
        load(saved("a.pth", query=ASK.replace("img_size=32", "img_size=64")))


def test_missing_and_unknown_tensors_are_counted_and_named(saved, module):
    state = {("other" + key if "norm" in key else key): value for key, value in module.state_dict().items()}
    with pytest.raises(CheckpointMismatch, match=r"6 tensors missing from it \(blocks.0.norm1.weight, .* and 3 more\); 6 tensors unknown"):
        load(saved("a.pth", state))


def test_weights_that_are_not_finite_are_refused(saved, module):
    state = {key: torch.full_like(value, torch.nan) if key == "norm.bias" else value for key, value in module.state_dict().items()}
    with pytest.raises(ModelError, match=r"norm.bias"):
        load(saved("a.pth", state))


class Trap:
    def __reduce__(self):
        return os.mkdir, (os.environ["ROBUSTVIT_TRAP"],)


def test_nothing_from_a_file_is_executed(saved, module, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTVIT_TRAP", str(tmp_path / "sprung"))
    with pytest.raises(ModelError, match=r"it needs .*mkdir.*nothing from a file is executed"):
        load(saved("a.pth", {"state_dict": module.state_dict(), "trap": Trap()}))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(saved, tmp_path, name, share):
    address = saved(name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match=name):
        load(address)


@pytest.mark.parametrize("value", [{}, {"epoch": 3}, [1, 2]])
def test_a_file_without_tensors_is_refused(saved, value):
    with pytest.raises(ModelError, match="no named tensors"):
        load(saved("a.pth", value))


def test_a_file_that_does_not_exist_is_refused_with_the_nearest_name(saved):
    with pytest.raises(WeightsUnavailable, match=r"no such checkpoint. Did you mean 'mine.pth'"):
        load(saved("mine.pth").replace("mine.pth", "mines.pth"))


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(WeightsUnavailable, match="is a folder"):
        load(f"file:{tmp_path}?arch=vit_ti16")


def test_timms_own_filter_renames_tensors_of_an_older_layout():
    small = {"depths": (1, 1, 1, 1), "num_classes": 7}
    old, fresh = (timm.create_model("swin_tiny_patch4_window7_224", **small) for _ in range(2))
    older = {f"layers.{stage}.downsample": f"layers.{stage - 1}.downsample" for stage in (1, 2, 3)} | {"head.fc": "head"}
    state = {}
    for key, value in old.state_dict().items():
        new = next((name for name in older if key.startswith(name)), "")
        state[older.get(new, "") + key.removeprefix(new)] = value
    load_tensors(fresh, state, "old.pth")
    assert fingerprint(fresh) == fingerprint(old)


def test_what_the_trainer_saves_is_loaded_by_its_path(tmp_path, module):
    about = About("vit_tiny_patch16_224", KWARGS, 7, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), accuracy=0.5, command="robustvit train")
    (tmp_path / "a.safetensors").write_bytes(checkpoint_bytes(module, about, "float32"))
    model = load(f"file:{tmp_path / 'a.safetensors'}")
    assert model.card.fingerprint == fingerprint(module)
    assert (model.card.notes["accuracy"], model.card.notes["command"]) == (0.5, "robustvit train")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!DOCTYPE html><html>log in</html>", "a saved web page"),
        (b"\n <html><head>", "a saved web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of Git LFS.*git lfs pull"),
        (b"<?xml version='1.0'?><Error>", "an XML page"),
    ],
)
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_what_is_downloaded_in_place_of_a_checkpoint_is_named(tmp_path, content, reason, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        load(f"file:{tmp_path / name}?{ASK}")


def test_several_models_in_a_file_are_chosen_by_key(saved, module):
    other = {key: value + 1 for key, value in module.state_dict().items()}
    address = saved("a.pth", {"student": other, "teacher": module.state_dict(), "epoch": 3})
    with pytest.raises(ModelError, match=r"mappings under student, teacher: say which by \?key=teacher"):
        load(address)
    assert load(f"{address}&key=teacher").card.fingerprint == fingerprint(module)
    with pytest.raises(BadParameter, match=r"nothing at key=teachers. Did you mean 'teacher'"):
        load(f"{address}&key=teachers")


def test_a_key_may_lead_deeper_and_an_unusual_nest_is_named(saved, module):
    address = saved("a.pth", {"params": {"net_g": module.state_dict()}})
    with pytest.raises(ModelError, match=r"\?key=params"):
        load(address)
    assert load(f"{address}&key=params.net_g").card.fingerprint == fingerprint(module)


@pytest.mark.parametrize("prefix", ["model.", "module.model.", "backbone.", "encoder.vit."])
def test_a_prefix_of_most_names_is_named_and_can_be_given(saved, module, prefix):
    state = {prefix + key: value for key, value in module.state_dict().items()} | {"criterion.weight": torch.ones(7)}
    address = saved("a.pth", {"state_dict": state})
    with pytest.raises(CheckpointMismatch, match=rf"begin with '{prefix}': add prefix={prefix}\.".replace("..", r"\..")):
        load(address)
    for written in (prefix, prefix[:-1]):
        assert load(f"{address}&prefix={written}").card.fingerprint == fingerprint(module)
    with pytest.raises(BadParameter, match=r"no tensor that begins with 'head\.of\.'"):
        load(f"{address}&prefix=head.of")


@pytest.mark.parametrize(("mean", "std"), [("mu", "sigma"), ("module.normalizer.new_mean", "module.normalizer.new_std")])
def test_a_normaliser_beside_the_model_is_part_of_the_advice(saved, module, mean, std):
    state = {f"module.model.{key}": value for key, value in module.state_dict().items()}
    beside = {mean: torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1), std: torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)}
    wanted = "prefix=module.model." if mean == "mu" else "prefix=model."  # a prefix of all names is removed first
    with pytest.raises(CheckpointMismatch, match=re.escape(f"{wanted}&mean=0.1,0.2,0.3&std=0.4,0.5,0.6")):
        load(saved("a.pth", state | beside))


def test_averaged_weights_are_chosen_visibly_and_can_be_refused(saved, module, caplog):
    other = {key: value + 1 for key, value in module.state_dict().items()}
    address = saved("a.pth", {"state_dict": other, "state_dict_ema": module.state_dict()})
    averaged = load(address).card
    assert averaged.notes["weights"] == "averaged weights (state_dict_ema); the file holds plain ones too (state_dict): ?ema=false"
    assert "a.pth: averaged weights (state_dict_ema)" in caplog.text
    assert load(f"{address}&ema=true").card.fingerprint == averaged.fingerprint
    plain = load(f"{address}&ema=false").card
    assert plain.fingerprint != averaged.fingerprint
    assert plain.notes["weights"] == "plain weights (state_dict)"
    with pytest.raises(BadParameter, match="holds no averaged weights"):
        load(saved("b.pth", {"state_dict": other}) + "&ema=true")


def test_a_pooled_normalisation_names_the_way_of_pooling(saved):
    with torch.random.fork_rng():
        pooled = timm.create_model("vit_tiny_patch16_224", num_classes=7, global_pool="avg", **SHAPE)
    address = saved("a.pth", pooled.state_dict())
    with pytest.raises(CheckpointMismatch, match="kwargs=global_pool=avg"):
        load(address)
    assert load(address.replace("kwargs=", "kwargs=global_pool=avg,")).card.fingerprint == fingerprint(pooled)


def test_whole_numbers_without_a_scale_are_refused(saved, module):
    state = {key: (value * 100).to(torch.int8) if key == "head.weight" else value for key, value in module.state_dict().items()}
    with pytest.raises(CheckpointMismatch, match=r"of whole numbers \(head.weight is int8\). They are quantised"):
        load(saved("a.safetensors", state))
