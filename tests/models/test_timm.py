"""Models of timm, with weights or without."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import timm
import torch

from robustvit.errors import BadParameter, CheckpointMismatch, ModelError, UnknownName, WeightsUnavailable
from robustvit.evaluation.loading import load_model
from robustvit.models import hub
from robustvit.models.timm import timm_model
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import fingerprint
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.model_address import parse_model
from robustvit.spec.spec import plain

TINY = "depth=1,embed_dim=24,img_size=32,num_heads=2,patch_size=8"
ADDRESS = f"vit_tiny_patch16_224?kwargs={TINY}&num_classes=10&weights=random"


def load(address: str) -> Classifier:
    spec = parse_model(address)
    entry = registry.lookup("model", spec.name)
    return entry.load()(**{key: plain(value) for key, value in bind(entry, spec).params})


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "responds", lambda url: False)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda repository, file: None)


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Any:
    """Puts a state dict where the hub's cache would have it."""

    def put(module: torch.nn.Module) -> None:
        path = tmp_path / "pytorch_model.bin"
        torch.save(module.state_dict(), path)
        monkeypatch.setattr(hub, "try_to_load_from_cache", lambda repository, file: str(path) if file == path.name else None)

    return put


def test_random_weights_are_the_same_in_every_process():
    built = f"timm_model(arch='vit_ti16', weights='random', num_classes=10, kwargs='{TINY}')"
    code = f"from robustvit.models.timm import timm_model; print({built}.card.fingerprint)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    torch.manual_seed(5)
    assert load(ADDRESS).card.fingerprint == done.stdout.strip()


def test_random_weights_leave_the_callers_random_state_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    load(ADDRESS)
    assert torch.equal(torch.get_rng_state(), state)


def test_random_weights_mark_the_card_and_the_label():
    card = load(ADDRESS).card
    assert (card.weights, card.label, card.tag) == ("random", ADDRESS, "")
    assert card.identity.get("weights") == "random"


def test_the_label_is_an_address_of_the_same_model():
    card = load(ADDRESS).card
    assert load(card.label).card == card


def test_an_alias_and_another_spelling_of_arguments_have_the_same_identity():
    other = timm_model(
        arch="vit_ti16", weights="random", num_classes=10, kwargs=" patch_size=8,img_size = 32,num_heads=2,embed_dim=24,depth=1"
    )
    assert other.card.identity == load(ADDRESS).card.identity


def test_logits_equal_timms_own_on_normalised_pixels():
    model, pixels = load(ADDRESS), torch.rand(3, 3, 32, 32)
    assert torch.allclose(model.configure(tile=3)(pixels), model.model((pixels - 0.5) / 0.5), atol=1e-6)


def test_the_preprocessing_is_the_models_own_configuration_at_its_own_size():
    model = load(ADDRESS)
    assert (model.size, model.view.resize, model.view.interpolation) == ((32, 32), 35, "bicubic")
    assert model.mean.flatten().tolist() == [0.5, 0.5, 0.5]


def test_the_preprocessing_can_be_set_by_hand():
    model = load(ADDRESS + "&mean=0.25&std=0.1,0.2,0.3&crop_pct=1&interpolation=bilinear")
    assert (model.view.resize, model.view.interpolation) == (32, "bilinear")
    assert model.card.identity.get("mean") == (0.25, 0.25, 0.25)
    assert model.std.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("text", ["vit_b17", "vit_base_patch61_224", "resnet5"])
def test_the_error_for_an_unknown_architecture_names_the_nearest(text):
    with pytest.raises(UnknownName, match="Did you mean"):
        load(text)


def test_the_error_for_an_unknown_tag_names_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'augreg_in21k'"):
        load("vit_base_patch16_224.augreg_in2k")


@pytest.mark.usefixtures("no_hub")
def test_weights_out_of_reach_are_an_error_that_says_what_to_do():
    with pytest.raises(WeightsUnavailable, match="--checkpoint"):
        load("vit_tiny_patch16_224")


def test_weights_in_the_cache_are_used_without_a_request_to_the_hub(cached, monkeypatch):
    module = timm.create_model("vit_tiny_patch16_224")
    cached(module)
    monkeypatch.setattr(hub, "responds", lambda url: pytest.fail("a request went to the hub"))
    model = load("vit_ti16")
    assert (model.card.weights, model.card.tag, model.card.licence) == ("pretrained", "augreg_in21k_ft_in1k", "apache-2.0")
    assert torch.equal(model.model.state_dict()["head.weight"], module.state_dict()["head.weight"])


def test_a_name_and_its_default_tag_are_the_same_model(cached):
    cached(timm.create_model("vit_tiny_patch16_224"))
    plain_name, tagged = load("vit_ti16").card, load("vit_tiny_patch16_224.augreg_in21k_ft_in1k").card
    assert (plain_name.identity, plain_name.fingerprint) == (tagged.identity, tagged.fingerprint)
    assert tagged.identity.get("arch") == "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


def test_pretrained_weights_that_do_not_fit_the_arguments_are_refused(cached):
    cached(timm.create_model("vit_tiny_patch16_224"))
    with pytest.raises(CheckpointMismatch, match="depth=2"):
        load("vit_ti16?kwargs=depth=2")


def test_pretrained_weights_never_get_a_random_head():
    with pytest.raises(WeightsUnavailable, match="the head would be random"):
        load("vit_ti16?num_classes=10")


def test_a_backbone_without_a_head_is_refused():
    with pytest.raises(ModelError, match="features, not logits"):
        load("vit_small_patch14_dinov2")


@pytest.mark.parametrize("kwargs", ["foo=3", "patch_size=text"])
def test_arguments_that_timm_does_not_take_are_refused(kwargs):
    with pytest.raises(BadParameter, match="timm cannot build"):
        load(f"vit_ti16?weights=random&kwargs={kwargs}")


def test_a_layer_that_timm_does_not_know_is_refused_with_the_spelling():
    with pytest.raises(BadParameter, match=r"it has nothing called 'torch\.nn\.relu6'\. Layers are given by timm's own .* act_layer=relu6"):
        load("vit_ti16?weights=random&kwargs=act_layer=torch.nn.ReLU6")
    load("vit_ti16?weights=random&kwargs=act_layer=relu6,norm_layer=layernorm,depth=1")


@pytest.mark.parametrize("kwargs", ["pretrained=true", "checkpoint_path=a.pth", "num_classes=3"])
def test_arguments_that_robustvit_sets_are_refused(kwargs):
    with pytest.raises(BadParameter, match="robustvit sets it"):
        load(f"vit_ti16?weights=random&kwargs={kwargs}")


def test_a_server_that_refuses_responds_all_the_same(monkeypatch):
    def refuse(request, timeout):
        raise hub.urllib.error.HTTPError("https://x", 403, "no", {}, None)

    monkeypatch.setattr(hub.urllib.request, "urlopen", refuse)
    assert hub.responds("https://x")


def test_no_server_does_not_respond():
    assert not hub.responds("http://127.0.0.1:9")


def test_a_model_of_timm_on_the_hub_is_loaded_from_the_cache(tmp_path, monkeypatch):
    built = timm.create_model("resnet10t", num_classes=2)
    snapshot = tmp_path / "models--me--mine" / "snapshots" / ("0" * 40)
    timm.models.save_for_hf(built, snapshot, model_config={"label_names": ["cat", "dog"]})
    (tmp_path / "models--me--mine" / "refs").mkdir()
    (tmp_path / "models--me--mine" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = load("hf-hub:me/mine")
    assert model.card.fingerprint == fingerprint(built)
    assert (model.outputs, model.card.classes) == (2, ("cat", "dog"))
    with pytest.raises(WeightsUnavailable, match="'hf-hub:me/yours' are not in the Hugging Face cache"):
        load("hf-hub:me/yours")


def test_a_model_of_one_channel_has_one_mean(tmp_path):
    model = load("resnet10t?weights=random&mean=0.1&std=0.3&kwargs=in_chans=1")
    assert (model.channels, model.mean.flatten().tolist()) == (1, [pytest.approx(0.1)])
    assert model(torch.rand(1, 1, *model.size)).shape == (1, 1000)
    with pytest.raises(BadParameter, match="one for each of 1 channels"):
        load("resnet10t?weights=random&kwargs=in_chans=1")


def test_the_word_none_reaches_timm_and_what_timm_would_leave_out_is_refused() -> None:
    small = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=16,depth=1,embed_dim=24,num_heads=2"
    assert load_model(small).model.pos_embed is not None
    assert load_model(f"{small},pos_embed=none").model.pos_embed is None
    with pytest.raises(BadParameter, match="timm leaves out what is null, so that pos_embed would have its default"):
        load_model(f"{small},pos_embed=null")
