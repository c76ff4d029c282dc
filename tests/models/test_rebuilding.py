"""Checkpoints whose headers name transforms: what hostile, damaged or newer files say is refused in one line, and nothing is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import robustvit as rv
from robustvit.errors import BadParameter, CheckpointMismatch, CodeRefused, ModelError, RobustvitError, UnknownName
from robustvit.models.rebuilding import MOST

VIT = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=8,embed_dim=24,depth=2,num_heads=2"
HVT = "arch/hvt?img_size=32&patch_size=8&dim=24&heads=2&depth=2&num_classes=10"
STATIC = "static_int8(calibration=digits?split=train,samples=16)"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file without transforms, one after `magnitude`, one after a transform that learned, one of a registered architecture."""
    folder = tmp_path_factory.mktemp("files")
    addresses = {"plain": VIT, "magnitude": f"{VIT}+magnitude(amount=0.5)", "static": f"{VIT}+{STATIC}", "hvt": HVT}
    for name, address in addresses.items():
        rv.save_checkpoint(rv.load_model(address), folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in addresses}


def rewritten(file: Path, place: Path, change: Any, tensors: Any = lambda found: found) -> str:
    """The address of a copy whose header and tensors were changed."""
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["robustvit"])
    save_file(tensors(load_file(file)), place, metadata={"robustvit": json.dumps(change(header))})
    return f"file:{place}"


def step(**changed: Any) -> dict[str, Any]:
    """`magnitude` as a header has it, with some of its parts changed."""
    params = {"amount": 0.5, "include": [], "layers": [], "scope": "global"}
    return {"name": "magnitude", "params": params, "kind": "transform", "version": 1, **changed}


def surgery(*steps: Any) -> Any:
    return lambda header: {**header, "surgery": list(steps)}


TRAP = 'from pathlib import Path\nPath("sprung").touch()\nimport robustvit as rv\n\n@rv.transform()\ndef run(model):\n    return model\n'


@pytest.mark.parametrize(("steps", "kind", "message"), [
    ([step(name="magnitud")], ModelError, "its transform 1, 'magnitud': no transform is called 'magnitud'. Did you mean 'magnitude'"),
    ([step(params={"amount": 2})], ModelError, "its transform 1, 'magnitude': transform 'magnitude': amount is 2; it takes a number >= 0"),
    ([step(params={"amont": 0.5})], ModelError, "has no parameter 'amont'. Did you mean 'amount'"),
    ([step(params={"amount": {"a": 3}})], ModelError, "it takes a number >= 0 and < 1"),
    ([step(params={"amount": [0.1, 0.2]})], ModelError, "amount is [0.1, 0.2], a sequence"),
    ([step(params={"amount": float("nan")})], ModelError, "amount is 'nan'; it takes"),
    ([step(params={"amount": {"fraction": "1/0"}})], ModelError, "its header's entry 'robustvit' is not as robustvit writes it"),
    ([step(params={"layers": ["blokcs"]})], ModelError, "its transform 1, 'magnitude': "),
    ([step(), step(version=2)], ModelError, "its transform 2, 'magnitude': it is of version 2, and here is version 1"),
    ([step(version="1")], ModelError, "each of a version that is a whole number"), ([step(version=True)], ModelError, "whole number"),
    ([step(kind="attack")], ModelError, "surgery names transforms"), ([step(name=3)], ModelError, "surgery names transforms"),
    ([step(params=[1])], ModelError, "is not as robustvit writes it"), ([3], ModelError, "surgery is a list of at most 32 transforms"),
    ([step()] * (MOST + 1), ModelError, "surgery is a list of at most 32 transforms"), (["magnitude"], ModelError, "surgery is a list"),
    ([step(name="pgd")], ModelError, "That is the name of an attack"),
    ([step(name="trap:run", params={})], CodeRefused, "'trap:run' is the name of code, which nothing but you may have run."),
    ([step(name="file:run", params={})], CodeRefused, "'file:run' is the name of code"),
    ([step(name="static_int8", params={"calibration": {"name": "trap:run", "params": {}, "kind": "data", "version": 1}})], CodeRefused,
     "its transform 1, 'static_int8': 'trap:run' is the name of code"),
    ([step(name="static_int8", params={"calibration": 3})], ModelError, "calibration is an int; it takes a name with its arguments"),
    ([step(name="static_int8", params={})], CheckpointMismatch, "tensors missing from it"),
])  # fmt: skip
def test_a_header_that_names_transforms_wrongly_is_refused_in_one_line(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[Any], kind: type[Exception], message: str
) -> None:
    (tmp_path / "trap.py").write_text(TRAP)
    monkeypatch.chdir(tmp_path)
    address = rewritten(files["magnitude"], tmp_path / "a.safetensors", surgery(*steps))
    with pytest.raises(kind) as refusal:
        rv.load_model(address)
    assert message in str(refusal.value)
    assert "a.safetensors" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(("changed", "message"), [
    (lambda header: {**header, "surgery": "magnitude"}, "surgery is a list"), (lambda header: {**header, "surgery": {"a": 1}}, "is a list"),
    (lambda header: {**header, "learned": [3]}, "learned and backbone are names"),
    (lambda header: {**header, "surgeries": []}, "surgeries"),
    (lambda header: {**header, "version": 0}, "version is 0"), (lambda header: {**header, "learned": ["0.scale"]}, "it lacks 1 tensors"),
])  # fmt: skip
def test_other_headers_that_are_not_as_written_are_refused(files: dict[str, Path], tmp_path: Path, changed: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        rv.load_model(rewritten(files["magnitude"], tmp_path / "a.safetensors", changed))


def test_a_header_nested_too_deep_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    text = '{"arch": "vit_tiny_patch16_224", "surgery": ' + "[" * 50_000 + "]" * 50_000 + "}"
    save_file(load_file(files["plain"]), tmp_path / "a.safetensors", metadata={"robustvit": text})
    with pytest.raises(ModelError, match="is not as robustvit writes it"):
        rv.load_model(f"file:{tmp_path / 'a.safetensors'}")


def test_a_transform_that_does_not_take_the_architecture_is_told_with_the_file(files: dict[str, Path], tmp_path: Path) -> None:
    evit = {"name": "evit", "params": {}, "kind": "transform", "version": 1}
    with pytest.raises(
        ModelError, match=r"a\.safetensors: its transform 1, 'evit': 'evit' takes timm's plain vision transformers"
    ) as refusal:
        rv.load_model(rewritten(files["hvt"], tmp_path / "a.safetensors", surgery(evit)))
    assert type(refusal.value) is ModelError  # no undefined cell: the file is wrong


def without(name: str) -> Any:
    return lambda found: {key: value for key, value in found.items() if key != name}


MASK = "blocks.0.attn.qkv.weight_mask"


@pytest.mark.parametrize(("change", "message"), [
    (without("norm.weight"), "1 tensor missing from it (norm.weight)"),
    (without(MASK), f"1 tensor missing from it ({MASK})"),
    (lambda found: found | {"more": torch.ones(1)}, "1 tensor unknown to the model (more)"),
    (lambda found: found | {MASK: found[MASK][:3].clone()}, f"{MASK} is (3, 24), the model's (72, 24)"),
    (lambda found: found | {MASK: found[MASK].long()}, f"{MASK} is int64, the model's bool"),
    (lambda found: found | {MASK: found[MASK].float()}, f"{MASK} is float32, the model's bool"),
    (lambda found: found | {"head.weight": found["head.weight"].long()}, "of whole numbers (head.weight is int64)"),
])  # fmt: skip
def test_tensors_that_do_not_fit_what_the_transforms_make_are_refused(
    files: dict[str, Path], tmp_path: Path, change: Any, message: str
) -> None:
    with pytest.raises(CheckpointMismatch) as refusal:
        rv.load_model(rewritten(files["magnitude"], tmp_path / "a.safetensors", lambda header: header, change))
    assert message in str(refusal.value)
    assert str(refusal.value).startswith("a.safetensors does not fit")
    assert "kwargs=" not in str(refusal.value)  # no advice that would not help


@pytest.mark.parametrize("wrapped", ["model.", "module."])
def test_names_of_tensors_are_taken_as_they_are(files: dict[str, Path], tmp_path: Path, wrapped: str) -> None:
    def renamed(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {wrapped + key: value for key, value in found.items()}

    address = rewritten(files["magnitude"], tmp_path / "a.safetensors", lambda header: header, renamed)
    with pytest.raises(CheckpointMismatch, match="missing from it"):
        rv.load_model(address)


def learned_of(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as opened:
        return json.loads(opened.metadata()["robustvit"])["learned"]


def test_what_transforms_learned_must_be_there_whole_and_theirs(files: dict[str, Path], tmp_path: Path) -> None:
    names, place = learned_of(files["static"]), tmp_path / "a.safetensors"
    assert names
    first = f"robustvit.learned.{names[0]}"
    cases = {
        "it lacks 1 tensors that its transforms learned": (lambda header: header, without(first)),
        "1 learned tensors that its header does not name": (lambda header: {**header, "learned": names[1:]}, lambda found: found),
        "learned by a transform that is not there; it has 1": (
            lambda header: {**header, "learned": [*names, "7.scale"]}, lambda found: found | {"robustvit.learned.7.scale": torch.ones(1)},
        ),
        "what it learned, as the file has it, does not fit it": (
            lambda header: {**header, "learned": names[1:]}, without(first),
        ),
    }  # fmt: skip
    for message, (header, tensors) in cases.items():
        with pytest.raises(ModelError, match=message) as refusal:
            rv.load_model(rewritten(files["static"], place, header, tensors))
        assert "\n" not in str(refusal.value)
    with pytest.raises(ModelError, match="it learns nothing, and the file has what it learned"):
        rv.load_model(rewritten(
            files["magnitude"], place, lambda header: {**header, "learned": ["0.scale"]},
            lambda found: found | {"robustvit.learned.0.scale": torch.ones(1)},
        ))  # fmt: skip


def test_learned_tensors_without_transforms_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    more = {"robustvit.learned.0.scale": torch.ones(1)}
    address = rewritten(files["plain"], tmp_path / "a.safetensors", lambda header: header, lambda found: found | more)
    with pytest.raises(CheckpointMismatch, match=r"unknown to the model \(robustvit.learned.0.scale\)"):
        rv.load_model(address)


def test_another_architecture_is_refused_for_a_file_after_transforms(files: dict[str, Path]) -> None:
    with pytest.raises(BadParameter, match=r"holds 'vit_tiny_patch16_224' after transforms, and fits nothing else; leave arch=vit_small"):
        rv.load_model(f"file:{files['magnitude']}?arch=vit_small_patch16_224")


@pytest.mark.parametrize(("changed", "kind", "message"), [
    ({"arch": "arch/hvtt"}, UnknownName, "no architecture is called 'arch/hvtt'. Did you mean 'arch/hvt'"),
    ({"arch": "arch/hvt?dim=3"}, UnknownName, "no architecture is called"),
    ({"version": 2}, ModelError, "a.safetensors: it is of version 2 of 'arch/hvt', and here is version 1"),
    ({"kwargs": "dimm=3"}, BadParameter, "has no parameter 'dimm'"), ({"kwargs": "self=3"}, BadParameter, "has no parameter 'self'"),
    ({"kwargs": "depth=100000000"}, ModelError, "takes numbers up to 1,000"), ({"kwargs": "pool_width=[1,2]"}, BadParameter, "a sequence"),
    ({"num_classes": 7}, CheckpointMismatch, r"head.weight is (10, 24), the model's (7, 24)"),
    ({"kwargs": "img_size=32,patch_size=8,dim=24,heads=5,depth=2"}, BadParameter, "24 does not divide into 5 heads"),
])  # fmt: skip
def test_registered_architectures_in_headers(
    files: dict[str, Path], tmp_path: Path, changed: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(RobustvitError) as refusal:
        rv.load_model(rewritten(files["hvt"], tmp_path / "a.safetensors", lambda header: header | changed))
    assert isinstance(refusal.value, kind)
    assert message in str(refusal.value)


def test_a_state_dict_of_a_registered_architecture_is_loaded_by_naming_it(tmp_path: Path) -> None:
    model = rv.load_model(HVT)
    torch.save({"state_dict": {f"module.{key}": value for key, value in model.model.state_dict().items()}}, tmp_path / "a.pth")
    query = "arch=arch/hvt&kwargs=img_size=32,patch_size=8,dim=24,heads=2,depth=2&num_classes=10"
    loaded = rv.load_model(f"file:{tmp_path / 'a.pth'}?{query}")
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded(pixels), model(pixels))
    assert loaded.card.notes["normalisation"] == "mean and std are arch/hvt's own; the checkpoint does not say"


def test_transforms_of_a_file_share_nothing_with_other_models(files: dict[str, Path]) -> None:
    first, second = (rv.load_model(f"file:{files['magnitude']}") for _ in range(2))
    with torch.no_grad():
        first.model.head.weight.zero_()
    assert bool(second.model.head.weight.any())
    assert isinstance(first.model, nn.Module)


@pytest.mark.parametrize("name", ["plain", "magnitude", "hvt"])
def test_loading_a_checkpoint_leaves_the_random_state_alone(files: dict[str, Path], name: str) -> None:
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    rv.load_model(f"file:{files[name]}")
    assert torch.equal(torch.rand(1), drawn)
