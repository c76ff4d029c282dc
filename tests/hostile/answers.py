"""Makes the hostile calls and says what they came to.

    PYTHONPATH=tests python -m hostile.answers [--whole] [--named=TEXT] [--answers] [GROUP ...]

prints how many calls there are in each group and how they ended, and each call whose end is wrong. --whole: all calls, not some;
--named: those in whose name a text occurs; --answers: what each was answered, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from conftest import answers, write_store
from hostile import api, commands, conflicts, contents, files, plugins, stores
from hostile.calls import Call, ending, fault

SOME = {"options": 4, "contents": 1, "stores": 3, "conflicts": 1, "plug-ins": 1, "api": 2}  # of each group, one in so many in the usual run
ENDINGS = ("refused", "accepted", "traceback", "hang")


def hostile_calls(group: str, place: Path) -> Iterator[Call]:
    """The calls of a group, on hostile files that are written into a folder, `f`."""
    root, whole = files.write(place / "f"), place / "whole"
    rows = {model: answers([True] * right + [False] * (8 - right)) for model, right in {"a": 6, "b": 4}.items()}
    write_store(whole, {(model, "clean", ""): one for model, one in rows.items()}, metrics=("top1", "nll", "brier", "ece"))
    stores.write(root, whole)
    if group == "options":
        yield from commands.hostile_calls(str(root))
    elif group == "contents":
        yield from contents.hostile_calls(root)
    elif group == "stores":
        yield from contents.calls_on_stores(root, whole)
    elif group == "conflicts":
        yield from conflicts.hostile_calls(root)
    elif group == "plug-ins":
        yield from plugins.hostile_calls(root)
    else:
        yield from api.hostile_calls(str(root / "store"))


def some(calls: Iterable[Call], every: int) -> list[Call]:
    """One call in `every`, and the first for each parameter, file or function."""
    chosen, seen = [], set[str]()
    for number, call in enumerate(calls):
        subject = " ".join(call.name.split(" ")[:2])
        if number % every == 0 or subject not in seen:
            chosen.append(call)
        seen.add(subject)
    return chosen


def answered(calls: Sequence[Call], place: Path) -> list[dict[str, Any]]:
    """What each call came to."""
    (place / "calls.json").write_text(json.dumps([call.as_json() for call in calls]))
    paths = [str(place / "f"), *filter(None, [os.environ.get("PYTHONPATH")])]
    words = [sys.executable, str(Path(__file__).with_name("zygote.py")), str(place / "calls.json"), str(place / "answers.jsonl")]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"})
    return [json.loads(line) for line in (place / "answers.jsonl").read_text().splitlines()]


def faults(calls: Sequence[Call], given: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each call whose answer is wrong."""
    wrong = [(fault(call, answer), call, answer) for call, answer in zip(calls, given, strict=True)]
    return [f"{what}: {call.name} ({one['code']}): {(one['err'] or one['out'])[-300:]}" for what, call, one in wrong if what]


def main(words: Sequence[str]) -> None:
    """Prints a line of counts for each group, and the faults."""
    print(f"{'group':10}{'calls':>8}" + "".join(f"{name:>11}" for name in ENDINGS) + f"{'wrong':>8}{'seconds':>9}")
    named = next((word.partition("=")[2] for word in words if word.startswith("--named=")), "")
    for group in [word for word in words if word in SOME] or SOME:
        with tempfile.TemporaryDirectory() as folder:
            calls = some(hostile_calls(group, Path(folder)), 1 if "--whole" in words else SOME[group])
            calls = [call for call in calls if named in call.name]
            given = answered(calls, Path(folder))
        wrong, ends = faults(calls, given), Counter(map(ending, given))
        seconds = sum(one["seconds"] for one in given)
        print(f"{group:10}{len(calls):8}" + "".join(f"{ends[name]:11}" for name in ENDINGS) + f"{len(wrong):8}{seconds:9.0f}", flush=True)
        print("\n".join(f"  {line}" for line in wrong), end="\n" * bool(wrong))
        if "--answers" in words:
            for call, one in zip(calls, given, strict=True):
                print(f"  {call.name} [{one['code']} {ending(one)} {one['seconds']:.1f} s] {(one['err'] or one['out']).strip()[-600:]}")


if __name__ == "__main__":
    main(sys.argv[1:])
