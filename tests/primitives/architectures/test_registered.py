"""Architectures by their registered names: random weights, the same in every process, of any size and number of classes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from robustvit.errors import BadParameter, ModelError, UnknownName
from robustvit.evaluation.loading import load_model
from robustvit.models.architectures.hvt import hvt
from robustvit.primitives.architectures.registered import network
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.model_address import parse_model, write_model
from robustvit.spec.registry import entries, lookup, model
from robustvit.spec.spec import Spec

SMALL = "arch/hvt?img_size=32&patch_size=8&dim=24&heads=2&depth=2&num_classes=5"
ARCHITECTURES = [name for name, entry in entries("model").items() if entry.architecture]


@pytest.fixture
def registered():
    """Registers functions as architectures, until the end of the test."""
    before = dict(registry._LIVE)
    yield lambda name, function: model(name=name)(function)
    registry._LIVE.clear()
    registry._LIVE.update(before)


def test_weights_are_random_the_same_each_time_and_marked() -> None:
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    first, second = load_model(SMALL), load_model(SMALL)
    assert torch.equal(torch.rand(1), drawn)
    assert first.card.fingerprint == second.card.fingerprint
    assert (first.card.weights, first.card.identity.get("weights")) == ("random", "random")
    assert float(first.model.head.weight.std()) > 0


def test_the_card_identifies_the_architecture_its_arguments_and_normalisation() -> None:
    card = load_model(SMALL + "&mean=0.5&std=0.5").card
    assert (card.identity.name, card.identity.kind, card.identity.version) == ("arch/hvt", "model", 1)
    assert (card.identity.get("pool_width"), card.identity.get("num_classes"), card.identity.get("mean")) == (12, 5, (0.5, 0.5, 0.5))
    assert card.source == "random initialisation"
    assert card.citation


def test_small_images_are_not_cropped_and_large_ones_as_is_usual() -> None:
    small, large = load_model(SMALL), load_model(SMALL.replace("img_size=32", "img_size=224"))
    assert (small.view.size, small.view.resize, large.view.size, large.view.resize) == ((32, 32), 32, (224, 224), 256)
    assert load_model(SMALL + "&crop_pct=0.5&interpolation=box").view.as_dict() == {
        "size": (32, 32), "resize": 64, "crop": "center", "interpolation": "box",
    }  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_answers_with_its_classes_row_by_row_with_gradients(name) -> None:
    made = load_model(f"{name}?img_size=64&num_classes=7")
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits = made(pixels)
    assert logits.shape == (3, 7)
    assert torch.equal(made(pixels[1:2]), logits[1:2])
    assert bool(torch.autograd.grad(logits.logsumexp(dim=1).sum(), pixels)[0].flatten(1).any(dim=1).all())


@pytest.mark.parametrize("name", ["arch/hvtt", "arch/", "arch/hv"])
def test_an_unknown_architecture_is_refused_with_the_nearest_name(name) -> None:
    with pytest.raises(UnknownName, match=r"Did you mean 'arch/hvt'.*\? Registered are arch/channel_vit, arch/cpvt, arch/hilo, arch/hvt"):
        parse_model(name)


def test_an_address_is_written_as_it_was_read() -> None:
    assert write_model(parse_model(SMALL)) == "arch/hvt?depth=2&dim=24&heads=2&img_size=32&num_classes=5&patch_size=8"
    assert write_model(parse_model("arch/hvt?dim=2,4")) == "arch/hvt?dim=2,4"


def test_flags_of_one_model_apply_to_an_architecture() -> None:
    flags = parse_model("arch/hvt?depth=2,3", checkpoint=Path("mine.pth"), model_kwargs={"dim": 24}, num_classes=5)
    assert flags == parse_model("file:mine.pth?arch=arch/hvt&kwargs=depth=[2,3],dim=24").with_params(num_classes=5)
    assert parse_model("arch/hvt?depth=2", model_kwargs={"dim": 24}, num_classes=5).get("dim") == 24
    with pytest.raises(BadParameter, match="says dim=3, the flag says 24"):
        parse_model("arch/hvt?dim=3", model_kwargs={"dim": 24})


def test_sequences_reach_the_function(registered) -> None:
    def stages(*, depths: tuple[int, ...] = (1, 2), num_classes: int = 3, img_size: int = 8) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * img_size**2, num_classes * sum(depths)))

    registered("arch/stages", stages)
    assert load_model("arch/stages?depths=2,2").outputs == 12


def test_functions_that_are_no_architecture_are_refused(registered) -> None:
    def sizeless(*, num_classes: int = 3) -> nn.Module:
        return nn.Flatten()

    def needy(*, width: int, num_classes: int = 3, img_size: int = 8) -> nn.Module:
        return nn.Flatten()

    def text(*, num_classes: int = 3, img_size: int = 8) -> str:
        return "a network"

    def broken(*, num_classes: int = 3, img_size: int = 8) -> nn.Module:
        return nn.Linear(img_size, -num_classes)

    wrong = {"sizeless": "no parameter 'img_size'", "needy": "no default for 'width'", "text": "it returned a str"}
    for function in (sizeless, needy, text, broken):
        registered(f"arch/{function.__name__}", function)
    for name, message in wrong.items():
        with pytest.raises(ModelError, match=message):
            load_model(f"arch/{name}?width=3" if name == "needy" else f"arch/{name}")
    with pytest.raises(BadParameter, match=r"arch/broken\(img_size=8, num_classes=3\) cannot be built: "):
        load_model("arch/broken")


def test_the_network_is_that_of_the_function() -> None:
    spec = bind(lookup("model", "arch/hvt"), parse_model(SMALL))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wanted = hvt(img_size=32, patch_size=8, dim=24, heads=2, depth=2, num_classes=5).state_dict()
    found = network(spec).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert found.keys() == wanted.keys()


PACKAGE = '''
from torch import nn

import robustvit as rv


@rv.model(name="arch/line", source="nobody", licence="MIT")
def line(*, width: int = 4, num_classes: int = 3, img_size: int = 8) -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * img_size * img_size, width), nn.ReLU(), nn.Linear(width, num_classes))
'''


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which a package of the user's own is installed that announces an architecture."""
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").write_text(PACKAGE)
    about = tmp_path / "nets-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nets\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[robustvit]\nnets = nets\n")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_an_installed_package_announces_an_architecture(installed) -> None:
    code = "import robustvit as rv; m = rv.load_model('arch/line?img_size=16'); print(m.card.weights, m.outputs, m.card.licence, m.size)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=installed)
    assert done.stdout.split("\n")[0] == "random 3 MIT (16, 16)"
    listed = [sys.executable, "-m", "robustvit", "list", "models"]
    assert "arch/line" in subprocess.run(listed, capture_output=True, text=True, check=True, env=installed).stdout


def test_an_architecture_is_no_timm_model() -> None:
    assert not any(entries("model")[name].architecture for name in ("timm", "demo", "file", "hf"))
    assert Spec("arch/hvt").name in ARCHITECTURES
