"""The command that trains the zoo: what it skips, what it makes again, and that it goes on where it was killed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from robustvit.cli.app import app
from robustvit.models.demo import WEIGHTS, shipped_models

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "reports" / "zoo.py"
TINY = "vit_tiny_patch16_224?weights=random&num_classes=10&crop_pct=1&kwargs=img_size=32,patch_size=16,embed_dim=8,depth=1,num_heads=1"
TOY = """
architecture: {tiny}
models:
  toy:
    doc: A toy.
    train:
      - --model {{architecture}} --data digits --defense plain --epochs {epochs} --batch-size 256
      - --from {{stage}} --data digits --defense plain --epochs 1 --batch-size 256
"""


@pytest.fixture(scope="module")
def zoo() -> ModuleType:
    """The script as a module."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("zoo", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules["zoo"] = made
        spec.loader.exec_module(made)
        return made
    finally:
        sys.path.remove(str(SCRIPT.parent))


def recipes(zoo: ModuleType, folder: Path, text: str) -> dict[str, object]:
    (folder / "zoo.yaml").write_text(text, encoding="utf-8")
    return dict(zoo.read_recipes(folder / "zoo.yaml"))


PAIR = """
architecture: A
models:
  first: {doc: One., seeds: [0, 4], train: ["--model {architecture} --epochs 1"]}
  second: {doc: Two., seeds: [0, 4], train: ["--from demo/first{tail}+prune --epochs %d"], claim: {text: t, against: "demo/first{tail}"}}
"""


def test_a_recipe_is_written_once_for_all_of_its_seeds(zoo: ModuleType, tmp_path: Path) -> None:
    found = recipes(zoo, tmp_path, PAIR % 2)
    assert list(found) == ["first", "first-1", "second", "second-1"]
    assert found["first-1"].commands == (("--model", "A", "--epochs", "1", "--seed", "4"),)
    assert (found["second-1"].needs, found["second-1"].claim["against"]) == (("first-1",), "demo/first-1")


def test_a_digest_follows_the_words_and_the_models_that_they_name(zoo: ModuleType, tmp_path: Path) -> None:
    before, after = recipes(zoo, tmp_path, PAIR % 2), recipes(zoo, tmp_path, PAIR % 3)
    assert [before[name].digest == after[name].digest for name in before] == [True, True, False, False]
    other = recipes(zoo, tmp_path, (PAIR % 2).replace("architecture: A", "architecture: B"))
    assert not [name for name in before if before[name].digest == other[name].digest]


def test_a_model_is_done_while_its_row_is_of_its_recipe_and_its_file_is_whole(zoo: ModuleType, tmp_path: Path) -> None:
    (one,) = [made for name, made in recipes(zoo, tmp_path, PAIR % 2).items() if name == "first"]
    assert not zoo.is_done(one, tmp_path)
    (tmp_path / "w").write_bytes(b"weights")
    row = {"file": "w", "recipe": one.digest, "sha256": hashlib.sha256(b"weights").hexdigest()}
    (tmp_path / "zoo.json").write_text(json.dumps({"demo/first": row}))
    assert zoo.is_done(one, tmp_path)
    (tmp_path / "w").write_bytes(b"weighty")
    assert not zoo.is_done(one, tmp_path)
    (tmp_path / "w").write_bytes(b"weights")
    (tmp_path / "zoo.json").write_text(json.dumps({"demo/first": row | {"recipe": "another"}}))
    assert not zoo.is_done(one, tmp_path)


def test_models_are_made_after_those_that_they_need_and_not_without(
    zoo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(recipe: object, places: object) -> str:
        if recipe.name == "first-1":  # type: ignore[attr-defined]
            raise RuntimeError("first-1: ended with 1")
        made.append(recipe.name)  # type: ignore[attr-defined]
        return ""

    monkeypatch.setattr(zoo, "make", make)
    found = recipes(zoo, tmp_path, PAIR % 2)
    failed = zoo.make_all(zoo.chosen(found, []), zoo.Places(tmp_path, tmp_path, ()), 2)
    assert (made.index("first") < made.index("second"), len(made)) == (True, 2)
    assert failed == ["first-1: ended with 1", "second-1: needs first-1"]
    assert [one.name for one in zoo.chosen(found, ["second-1"])] == ["first-1", "second-1"]
    assert [one.name for one in zoo.chosen(found, [])] == ["first", "second", "first-1", "second-1"]
    with pytest.raises(SystemExit, match="no recipe is called 'third'"):
        zoo.chosen(found, ["third"])


def test_the_shipped_models_are_those_of_the_recipes(zoo: ModuleType) -> None:
    found = zoo.read_recipes(SCRIPT.with_name("zoo.yaml"))
    rows = {name.removeprefix("demo/"): row["recipe"] for name, row in shipped_models().items() if "recipe" in row}
    assert rows == {name: found[name].digest for name in rows}


@pytest.mark.parametrize("name", [name for name, row in shipped_models().items() if "recipe" in row])
def test_a_card_is_written_from_its_row(zoo: ModuleType, name: str) -> None:
    written = (WEIGHTS / f"{name.replace('/', '-')}.md").read_text(encoding="utf-8")
    assert written == zoo.zoo_cards.card(name, shipped_models()[name])


def test_the_page_has_the_table_of_the_rows(zoo: ModuleType) -> None:
    text = zoo.PAGE.read_text(encoding="utf-8")
    assert text == zoo.zoo_cards.page(text, shipped_models())
    assert all(f"| `{name}` |" in text for name, row in shipped_models().items() if "recipe" in row)


def test_a_stage_that_ended_is_not_trained_again_and_one_of_another_recipe_or_of_other_bytes_is(
    zoo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, trained = recipes(zoo, tmp_path, PAIR % 2)["first"], []

    def train(recipe: object, stage: int, work: Path, lock: int) -> None:
        trained.append(stage)
        for end, text in ((".safetensors", "weights"), (".tries", "++"), (".seconds", "3.2\n4.1\n")):
            (work / f"first{end}").write_text(text)

    monkeypatch.setattr(zoo, "_train", train)
    (made,) = zoo.trained(recipe, tmp_path)
    assert (made["seconds"], made["tries"], made["sha256"]) == (7, 2, hashlib.sha256(b"weights").hexdigest())
    (tmp_path / "first.json").unlink()  # as of a process that outlived the command
    assert zoo.trained(recipe, tmp_path) == [made]
    assert trained == [0]
    (tmp_path / "first.safetensors").write_text("weighty")
    assert zoo.trained(recipe, tmp_path) == [made]
    (tmp_path / "first.recipe").write_text("another")
    (tmp_path / "first.json").write_text("{}")
    zoo.trained(recipe, tmp_path)
    assert trained == [0, 0, 0]


def start(folder: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, str(SCRIPT), "--recipes", str(folder / "toy.yaml"), "--work", str(folder / "work")]
    return subprocess.Popen([*words, "--weights", str(folder)], env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True)


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_bytes_of_its_training_commands(
    zoo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.yaml").write_text(TOY.format(tiny=TINY, epochs=6))
    killed = start(tmp_path)
    while not (tmp_path / "work" / "toy.1.resume.pt").is_file() and killed.poll() is None:
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "zoo.json").exists()
    assert start(tmp_path).wait(300) == 0
    row = json.loads((tmp_path / "zoo.json").read_text())["demo/toy"]
    (recipe,) = zoo.read_recipes(tmp_path / "toy.yaml").values()
    assert (row["tries"], zoo.is_done(recipe, tmp_path)) == ([2, 1], True)
    monkeypatch.chdir(tmp_path)
    for line in row["commands"]:
        assert CliRunner().invoke(app, shlex.split(line)[1:]).exit_code == 0
    assert (tmp_path / "demo-toy.safetensors").read_bytes() == (tmp_path / "toy.safetensors").read_bytes()
