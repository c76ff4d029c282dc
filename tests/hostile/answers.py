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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from conftest import answers, write_store
from hostile import api, commands, conflicts, contents, files, plugins, stores
from hostile.calls import Call, ending, fault

# of each group, one in so many in the usual run, and of all but the last the first of every second parameter or file
SOME = {"options": 64, "contents": 10, "stores": 30, "conflicts": 1, "plug-ins": 6, "api": 6}
ENDINGS = ("refused", "accepted", "traceback", "hang")


def hostile_calls(groups: Iterable[str], place: Path, *, whole: bool) -> dict[str, list[Call]]:
    """The calls of groups, by group, on hostile files that are written into a folder, `f`. whole: all of them, not some."""
    root, store = files.write(place / "f"), place / "store"
    rows = {model: answers([True] * right + [False] * (8 - right)) for model, right in {"a": 6, "b": 4}.items()}
    write_store(store, {(model, "clean", ""): one for model, one in rows.items()}, metrics=("top1", "nll", "brier", "ece"))
    stores.write(root, store)
    made: dict[str, Callable[[], Iterator[Call]]] = {
        "options": lambda: commands.hostile_calls(str(root)),
        "contents": lambda: contents.hostile_calls(root),
        "stores": lambda: contents.calls_on_stores(root, store),
        "conflicts": lambda: conflicts.hostile_calls(root),
        "plug-ins": lambda: plugins.hostile_calls(root),
        "api": lambda: api.hostile_calls(str(root / "store")),
    }
    return {group: some(made[group](), 1 if whole else SOME[group], firsts=group != "api") for group in groups}


def some(calls: Iterable[Call], every: int, *, firsts: bool) -> list[Call]:
    """One call in `every`; firsts: and the first for every second parameter, file or function."""
    chosen, seen = [], set[str]()
    for number, call in enumerate(calls):
        subject = " ".join(call.name.split(" ")[:2])
        if number % every == 0 or (firsts and subject not in seen and len(seen) % 2 == 0):
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
    named = next((word.partition("=")[2] for word in words if word.startswith("--named=")), "")
    groups = [word for word in words if word in SOME] or list(SOME)
    with tempfile.TemporaryDirectory() as folder:
        known = hostile_calls(groups, Path(folder), whole="--whole" in words)
        known = {group: [call for call in calls if named in call.name] for group, calls in known.items()}
        given = iter(answered([call for calls in known.values() for call in calls], Path(folder)))
    print(f"{'group':10}{'calls':>8}" + "".join(f"{name:>11}" for name in ENDINGS) + f"{'wrong':>8}{'seconds':>9}")
    totals: Counter[str] = Counter()
    for group, calls in known.items():
        own = [next(given) for _ in calls]
        totals += _print_line(group, calls, own)
        if "--answers" in words:
            for call, one in zip(calls, own, strict=True):
                print(f"  {call.name} [{one['code']} {ending(one)} {one['seconds']:.1f} s] {(one['err'] or one['out']).strip()[-600:]}")
    print(f"{'all':10}{sum(totals.values()):8}" + "".join(f"{totals[name]:11}" for name in ENDINGS))


def _print_line(group: str, calls: Sequence[Call], given: Sequence[dict[str, Any]]) -> Counter[str]:
    wrong, ends, seconds = faults(calls, given), Counter(map(ending, given)), sum(one["seconds"] for one in given)
    print(f"{group:10}{len(calls):8}" + "".join(f"{ends[name]:11}" for name in ENDINGS) + f"{len(wrong):8}{seconds:9.0f}")
    print("\n".join(f"  {line}" for line in wrong), end="\n" * bool(wrong))
    return ends


if __name__ == "__main__":
    main(sys.argv[1:])
