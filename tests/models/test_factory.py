"""Models from a function of the user's own."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.model_address import parse_model
from robustvit.spec.spec import plain

SOURCE = """
import torch
from torch import nn
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import Card
from robustvit.errors import DataMissing
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

def bare():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 5))

def configured():
    model = bare()
    model.default_cfg = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "input_size": (3, 8, 8), "crop_pct": 0.8}
    return model

def whole():
    return Classifier(bare(), mean=(0.5,) * 3, std=(0.5,) * 3, view=View((8, 8), 8), card=Card("mine", Spec("mine"), "f", "given"))

def text():
    return "weights"

def failing():
    raise ZeroDivisionError("no luck")

def refusing():
    raise DataMissing("download the weights first.")

number = 3
"""


def load(address: str) -> Classifier:
    spec = parse_model(address)
    entry = registry.lookup("model", spec.name)
    return entry.load()(**{key: plain(value) for key, value in bind(entry, spec).params})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_own_models.py").write_text(SOURCE)
    (tmp_path / "my_broken_models.py").write_text("import no_such_module_anywhere")
    (tmp_path / "my_loud_models.py").write_text("raise OSError('disk on fire')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def test_a_bare_module_takes_its_preprocessing_from_the_address():
    model = load("my_own_models:bare?mean=0.5&std=0.25&img_size=8")
    assert (model.size, model.view.resize, model.outputs) == ((8, 8), 8, 5)
    assert (model.card.weights, model.card.label) == ("given", "my_own_models:bare?img_size=8&mean=0.5,0.5,0.5&std=0.25,0.25,0.25")


def test_a_mean_and_std_of_bytes_are_refused():
    with pytest.raises(BadParameter, match=r"are not of pixels in \[0, 1\].*divide them by 255: mean \(0\.482, 0\.459, 0\.408\)"):
        load("my_own_models:bare?mean=123,117,104&std=58,57,57.5&img_size=8")


def test_a_bare_module_without_a_preprocessing_is_refused_never_guessed():
    with pytest.raises(ModelError, match="Give std and img_size"):
        load("my_own_models:bare?mean=0.5")


def test_a_configuration_on_the_module_is_its_preprocessing():
    model = load("my_own_models:configured")
    assert (model.size, model.view.resize) == ((8, 8), 10)
    assert model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_the_address_comes_before_the_configuration():
    model = load("my_own_models:configured?mean=0.5&crop_pct=1&interpolation=box")
    assert (model.view.resize, model.view.interpolation) == (8, "box")
    assert model.card.identity.get("mean") == (0.5, 0.5, 0.5)


def test_a_classifier_is_taken_as_it_is():
    assert load("my_own_models:whole").card.label == "mine"


def test_the_preprocessing_of_a_classifier_cannot_be_given_again():
    with pytest.raises(BadParameter, match="mean"):
        load("my_own_models:whole?mean=0.5")


def test_the_current_folder_is_on_the_path_only_while_it_is_needed():
    before = list(sys.path)
    load("my_own_models:configured")
    assert sys.path == before


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("my_own_models:text", r"must return an nn.Module or a Classifier; it returned a str"),
        ("my_own_models:failing", r"'my_own_models:failing' raised ZeroDivisionError: no luck"),
        ("my_own_models:bear", r"has no function 'bear'. Did you mean 'bare'"),
        ("my_own_models:number", r"has no function 'number'"),
        ("my_other_models:bare", r"no module 'my_other_models'"),
        ("my_broken_models:bare", r"no module 'no_such_module_anywhere'"),
        ("my_loud_models:bare", r"its module raised OSError: disk on fire"),
    ],
)
def test_a_factory_that_gives_no_model_is_named(address, message):
    with pytest.raises(ModelError, match=message):
        load(address)


def test_an_error_of_robustvit_inside_a_factory_is_shown_as_it_is():
    with pytest.raises(Exception, match=r"^download the weights first\.$"):
        load("my_own_models:refusing")


def test_the_same_weights_have_the_same_fingerprint():
    state = torch.get_rng_state()
    one, two = load("my_own_models:configured").card, load("my_own_models:configured").card
    torch.set_rng_state(state)
    assert one == two


@pytest.fixture
def package(tmp_path):
    """A factory in a package, which imports a neighbour, a module of its folder, and one that is named inside a function."""
    folder = tmp_path / "my_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "layers.py").write_text("SCALE = 2\n")
    (folder / "late.py").write_text("SHIFT = 1\n")
    (folder / "unused.py").write_text("NOTHING = 1\n")
    (tmp_path / "my_beside.py").write_text("import json\nBIAS = 3\n")
    (folder / "vit.py").write_text(
        '"""Says what it is."""\nimport torch\nfrom torch import nn\nimport my_beside\nfrom .layers import SCALE\n\n\n'
        'def made():\n    """Makes it."""\n    from . import late\n    torch.manual_seed(0)\n'
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, 5))\n"
    )
    return tmp_path


def identity(address: str = "my_package.vit:made?mean=0.5&std=0.5&img_size=8"):
    for name in [name for name in sys.modules if name.startswith(("my_package", "my_beside"))]:
        del sys.modules[name]
    return load(address).card.identity


def edit(path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("my_package/vit.py", "Linear(192, 5)", "Linear(192, 5, True)"),
        ("my_package/layers.py", "2", "3"),
        ("my_package/late.py", "1", "2"),
        ("my_package/__init__.py", "", "x = 1"),
        ("my_beside.py", "3", "4"),
    ],
)
def test_an_edit_of_the_code_makes_another_model(package, file, old, new):
    before = identity()
    edit(package / file, old, new)
    assert identity() != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("my_package/vit.py", "Says what it is.", "Says more."),
        ("my_package/vit.py", "    torch.manual_seed(0)\n", "    # a comment\n\n    torch.manual_seed( 0 )\n"),
        ("my_package/vit.py", "Makes it.", "Makes one."),
        ("my_package/unused.py", "1", "2"),
    ],
)
def test_comments_docstrings_and_other_modules_are_no_edit(package, file, old, new):
    before = identity()
    edit(package / file, old, new)
    assert identity() == before


def test_an_edit_counts_when_the_module_is_loaded_again(package):
    before = identity()
    edit(package / "my_package" / "layers.py", "2", "3")
    assert load("my_package.vit:made?mean=0.5&std=0.5&img_size=8").card.identity == before
    assert identity() != before


def test_the_code_of_a_factory_that_returns_a_classifier_counts_too(tmp_path):
    before = load("my_own_models:whole").card.identity
    assert load("my_own_models:whole").card.identity == before
    sys.modules.pop("my_own_models")
    edit(tmp_path / "my_own_models.py", "number = 3", "number = 4")
    assert load("my_own_models:whole").card.identity != before


def test_source_that_cannot_be_read_is_said(monkeypatch):
    module = types.ModuleType("my_own_models")
    exec(SOURCE, vars(module))
    monkeypatch.setitem(sys.modules, "my_own_models", module)
    card = load("my_own_models:configured").card
    assert card.notes["code"] == "the source of my_own_models cannot be read, so that an edit of it goes unnoticed"
