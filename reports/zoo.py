"""Trains the zoo of tiny ViTs that ships with robustvit as `demo/NAME`, and writes its weights, table and cards: resumable.

    OMP_NUM_THREADS=1 python reports/zoo.py --work zoo-work [--jobs 2] [--only trades …] [--train-only]

`zoo.yaml` has the recipes: the words of `robustvit train`, seeds, the models that another one starts from, and what its defense claims. A
model is done when the table has a row with the digest of its recipe, and its file has the digest of that row; it is then skipped. What is
not is trained in the folder `--work`, from where a killed command goes on to the same weights, then measured on the held-out digits, and
its file, row and card are written. Two commands at once do not train one model twice: a lock of each is held while a process trains it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import fcntl
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
import zoo_cards

import robustvit as rv
from robustvit.models.checkpoint import read_about

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE.parent / "robustvit" / "models" / "weights"
PAGE = HERE.parent / "docs" / "zoo.md"
FAMILY = "demo/"
_MEASURING = threading.Lock()
_TIMED = """
import atexit, sys, time
file = open(sys.argv.pop(1), "a", buffering=1)
atexit.register(lambda: file.write(f"{time.process_time():.1f}\\n"))
sys.argv[0] = "robustvit"
from robustvit.cli.app import main
main()
"""
"""`robustvit`, which adds its seconds of CPU to a file when it ends, whoever waits for it."""
_NAMED = re.compile(re.escape(FAMILY) + r"([a-z0-9-]+)")


@dataclass(frozen=True)
class Recipe:
    """One model. commands: the words behind `robustvit train`, of each of its stages, without `--out`.

    place: of its seed in the list. needs: the models of the zoo that its words name. claim: what its defense promises. digest: of all that
    its weights depend on, but for versions and machine.
    """

    name: str
    doc: str
    seed: int
    place: int
    commands: tuple[tuple[str, ...], ...]
    needs: tuple[str, ...]
    claim: Mapping[str, Any]
    digest: str

    def file(self, stage: int) -> str:
        """The checkpoint of a stage, counted from 0; the last has the name of the model alone."""
        last = stage == len(self.commands) - 1
        return f"{self.name}.safetensors" if last else f"{self.name}.{stage + 1}.safetensors"


def read_recipes(path: Path) -> dict[str, Recipe]:
    """The recipes of a file by name, one for each seed, in their order; a model comes after those that it needs."""
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    found: dict[str, Recipe] = {}
    for base, row in written["models"].items():
        for place, seed in enumerate(row.get("seeds", [0])):
            one = _recipe(base, row, place, seed, written["architecture"], found)
            found[one.name] = one
    return found


def _recipe(base: str, row: Mapping[str, Any], place: int, seed: int, architecture: str, known: Mapping[str, Recipe]) -> Recipe:
    tail = f"-{place}" if place else ""
    name, fill = base + tail, {"{architecture}": architecture, "{tail}": tail, "{stage}": f"file:{base}{tail}.1.safetensors"}
    commands = tuple((*_filled(shlex.split(text), fill), "--seed", str(seed)) for text in row["train"])
    used = dict.fromkeys(other for words in commands for word in words for other in _NAMED.findall(word))
    needs = tuple(other for other in used if other in known)
    claim = json.loads(_filled([json.dumps(row["claim"])], fill)[0]) if "claim" in row else {}
    question = {"name": name, "commands": commands, "needs": {other: known[other].digest for other in needs}}
    digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:20]
    doc = row["doc"] + (f" Seed {seed}." if len(row.get("seeds", [0])) > 1 else "")
    return Recipe(name, doc, seed, place, commands, needs, claim, digest)


def _filled(words: Sequence[str], fill: Mapping[str, str]) -> list[str]:
    found = list(words)
    for key, value in fill.items():
        found = [word.replace(key, value) for word in found]
    return found


def sha256(path: Path) -> str:
    """The digest of a file's bytes; of none "" ."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def read_table(weights: Path) -> dict[str, Any]:
    """The table of the models that ship."""
    path = weights / "zoo.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def is_done(recipe: Recipe, weights: Path) -> bool:
    """Whether the table has the model, made by this recipe, and its file is the one that the row is of."""
    row = read_table(weights).get(FAMILY + recipe.name, {})
    return row.get("recipe") == recipe.digest and row.get("sha256") == sha256(weights / str(row.get("file")))


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Holds a lock that the processes which inherit it hold, too: one that outlives a killed command keeps it until it ends."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    hidden.write_bytes(content)
    hidden.replace(path)


def trained(recipe: Recipe, work: Path) -> list[dict[str, Any]]:
    """What is known of each stage, trained in the folder where it is not there."""
    return [_stage(recipe, stage, work) for stage in range(len(recipe.commands))]


def _stage(recipe: Recipe, stage: int, work: Path) -> dict[str, Any]:
    out = work / recipe.file(stage)
    about, question = out.with_suffix(".json"), out.with_suffix(".recipe")
    with locked(out.with_suffix(".lock")) as lock:
        known = json.loads(about.read_text()) if about.is_file() else {}
        if known.get("recipe") == recipe.digest and known.get("sha256") == sha256(out):
            return dict(known)
        if not question.is_file() or question.read_text() != recipe.digest:
            for old in (out, about, *(out.with_suffix(end) for end in (".resume.pt", ".partial.safetensors", ".tries", ".seconds"))):
                old.unlink(missing_ok=True)
            write_whole(question, recipe.digest.encode())
        elif known:  # the file is not what was trained
            out.unlink(missing_ok=True)
        if not out.is_file():  # it may be there: written by a process that outlived the command which began it
            _train(recipe, stage, work, lock)
        tries, ended = (out.with_suffix(end).read_text() for end in (".tries", ".seconds"))
        found = {"recipe": recipe.digest, "sha256": sha256(out), "seconds": round(sum(map(float, ended.split()))), "tries": len(tries)}
        write_whole(about, json.dumps(found | {"versions": zoo_cards.versions()}).encode())
        return found | {"versions": zoo_cards.versions()}


def _train(recipe: Recipe, stage: int, work: Path, lock: int) -> None:
    """Runs `robustvit train` until it ends. Raises RuntimeError where it fails, with the place of its log."""
    out = work / recipe.file(stage)
    words = [str(out.with_suffix(".seconds")), "train", *recipe.commands[stage], "--out", out.name]
    with out.with_suffix(".log").open("ab") as log, out.with_suffix(".tries").open("a") as tries:
        tries.write("+")
        tries.flush()
        done = subprocess.run(
            [sys.executable, "-c", _TIMED, *words], cwd=work, stdout=log, stderr=log, pass_fds=[lock], check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])},
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{recipe.name}: robustvit train ended with {done.returncode}; see {out.with_suffix('.log')}")


def ship(recipe: Recipe, stages: Sequence[Mapping[str, Any]], places: Places) -> None:
    """Measures a trained model and writes its file, its card and, last, its row."""
    out = places.work / recipe.file(len(recipe.commands) - 1)
    commands = [read_about(places.work / recipe.file(stage)).command for stage in range(len(stages))]
    row = {
        "file": f"demo-{recipe.name}.safetensors", "doc": recipe.doc,
        "source": f"reports/zoo.py on the training split of digits; weights/demo-{recipe.name}.md is its card",
        "recipe": recipe.digest, "seed": recipe.seed, "commands": commands, "sha256": sha256(out),
        "bytes": out.stat().st_size, "seconds": sum(one["seconds"] for one in stages), "tries": [one["tries"] for one in stages],
        "versions": stages[-1]["versions"], **zoo_cards.measured(out, recipe.claim, places.work, places.weights),
    }  # fmt: skip
    write_whole(places.weights / row["file"], out.read_bytes())
    write_whole(places.weights / f"demo-{recipe.name}.md", zoo_cards.card(FAMILY + recipe.name, row).encode())
    with locked(places.work / "table.lock"):
        table = read_table(places.weights) | {FAMILY + recipe.name: row}
        write_whole(places.weights / "zoo.json", zoo_cards.table_text(table, [FAMILY + name for name in places.order]).encode())


@dataclass(frozen=True)
class Places:
    """work: of what is unfinished. weights: of what ships. order: of the rows, by name."""

    work: Path
    weights: Path
    order: tuple[str, ...]


def make(recipe: Recipe, places: Places) -> str:
    """Trains, measures and ships a model; returns what was done."""
    if is_done(recipe, places.weights):
        return "is there"
    stages = trained(recipe, places.work)
    with _MEASURING:
        ship(recipe, stages, places)
    return f"trained in {sum(one['seconds'] for one in stages)} s of CPU, and shipped"


def chosen(recipes: Mapping[str, Recipe], only: Sequence[str]) -> list[Recipe]:
    """The recipes of the names, and those that they need; of no names all: one of each, and then further seeds.

    Raises SystemExit for a name that no recipe has.
    """
    for name in only:
        if name not in recipes:
            raise SystemExit(f"no recipe is called '{name}'; there are {', '.join(recipes)}.")
    wanted = set(only or recipes)
    while more := {other for name in wanted for other in recipes[name].needs} - wanted:
        wanted |= more
    return sorted((one for name, one in recipes.items() if name in wanted), key=lambda one: one.place)


def make_all(wanted: Sequence[Recipe], places: Places, jobs: int) -> list[str]:
    """Makes models in their order, `jobs` at once; returns what failed, one line each. One that needs another waits for it."""
    ended = {one.name: threading.Event() for one in wanted}
    failed: dict[str, str] = {}

    def one_of(recipe: Recipe) -> None:
        try:
            for other in recipe.needs:
                ended[other].wait()
            if lost := [other for other in recipe.needs if other in failed]:
                raise RuntimeError(f"{recipe.name}: needs {lost[0]}")
            print(f"{FAMILY}{recipe.name}: {make(recipe, places)}", flush=True)
        except (RuntimeError, ValueError, rv.RobustvitError, OSError) as error:
            failed[recipe.name] = str(error)
        finally:
            ended[recipe.name].set()

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(one_of, recipe) for recipe in wanted]:
            done.result()
    return list(failed.values())


def main() -> None:
    """Makes what is missing, and the tables of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of unfinished checkpoints, logs and measurements")
    parser.add_argument("--recipes", type=Path, default=HERE / "zoo.yaml")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where files, table and cards are written")
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=1, help="models trained at once")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these, and what they start from")
    given = parser.parse_args()
    recipes = read_recipes(given.recipes)
    places = Places(given.work.resolve(), given.weights.resolve(), tuple(recipes))
    for folder in (places.work, places.weights):
        folder.mkdir(parents=True, exist_ok=True)
    failed = make_all(chosen(recipes, given.only), places, given.jobs)
    if places.weights == WEIGHTS:
        write_whole(PAGE, zoo_cards.page(PAGE.read_text(encoding="utf-8"), read_table(WEIGHTS)).encode())
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
