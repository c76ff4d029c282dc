"""Calls of the command line: every option and argument of every command, each with the hostile values of its kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main
from hostile.calls import Call
from hostile.values import values

from robustvit.cli.app import app
from robustvit.cli.configuration import leaf_commands

RANDOM = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=depth=1,embed_dim=24,img_size=32,num_heads=2,patch_size=8"
_RUN = {
    "model": "model",
    "checkpoint": "checkpoint",
    "model-kwargs": "pair",
    "num-classes": "classes",
    "suite": "suite",
    "data": "data",
    "data-dir": "data_dir",
    "download": "flag",
    "store": "store_write",
    "limit": "limit",
    "batch-size": "rows",
    "workers": "threads",
    "device": "device",
    "precision": "choice",
    "seed": "seed",
    "img-size": "pixels",
    "crop-pct": "share",
    "interpolation": "choice",
    "storage": "choice",
    "budget": "budget",
    "keep": "choice",
    "surrogate": "model",
    "latency": "flag",
    "skip-missing": "flag",
    "executor": "choice",
    "processes": "rows",
    "address": "choice",
    "resources": "pair",
    "measure": "flag",
    "log-to": "choice",
    "allow-code": "flag",
    "json": "flag",
    "output": "output",
    "quiet": "flag",
}
_BOARD = {"store": "store_read", "suite": "label", "model": "label", "format": "choice", "output": "output", "json": "flag"}
_STORE = {"store": "store_read", "json": "flag", "output": "output"}
KINDS: dict[str, dict[str, str]] = {
    "run": _RUN,
    "plan": _RUN,
    "leaderboard": {**_BOARD, "metric": "metric", "per": "choice", "ranks": "flag", "published": "flag", "references": "references"},
    "factors": {
        **_BOARD,
        "published": "flag",
        "shift": "label",
        "fit": "choice",
        "line": "choice",
        "factor": "label",
        "cost": "choice",
        "plot": "output",
    },
    "report": {**{key: _BOARD[key] for key in ("store", "suite", "model", "output")}, "bundle": "folder", "against": "store_read"},
    "figure": {
        "name": "choice",
        **{key: _BOARD[key] for key in ("store", "suite", "model", "output")},
        "against": "label",
        "score": "label",
        "cost": "choice",
    },
    "view": {**{key: _BOARD[key] for key in ("store", "suite", "model")}, "port": "port", "for": "budget", "open": "flag"},
    "status": {
        "place": "store_read",
        **{key: _BOARD[key] for key in ("store", "suite", "model", "format", "json")},
        "watch": "rate",
        "once": "flag",
    },
    "transfer": {**_BOARD, "over": "choice"},
    "compare": {
        "model_a": "label",
        "model_b": "label",
        "store": "store_read",
        "suite": "label",
        "flips": "flag",
        "json": "flag",
        "output": "output",
    },
    "store compact": {**_STORE, "suite": "label", "model": "label", "quiet": "flag"},
    "store verify": {**_STORE, "quiet": "flag"},
    "store merge": {"stores": "store_read", "into": "store_write", "json": "flag", "output": "output", "quiet": "flag"},
    "store gc": {**_STORE, "dry-run": "flag", "images": "flag", "quiet": "flag"},
    "store stats": {**_STORE, "suite": "label", "model": "label"},
    "store export": {**_STORE, "suite": "label", "model": "label", "to": "folder", "format": "choice"},
    "diff": {"store_a": "store_read", "store_b": "store_read", "suite": "label", "model": "label", "json": "flag", "output": "output"},
    "card": {"store": "store_read", "model": "label", "suite": "label", "output": "output", "push": "hub"},
    "submit": {
        "store": "store_read",
        "model": "label",
        "suite": "label",
        "output": "folder",
        "against": "entry",
        "json": "flag",
        "quiet": "flag",
    },
    "list": {"kind": "kind", "name": "label", "json": "flag", "output": "output"},
    "check": {"suites": "suite", "allow-code": "flag", "json": "flag", "output": "output"},
    "new": {"kind": "kind", "name": "plug-in name", "folder": "folder"},
    "data": {
        "name": "data",
        "verify": "flag",
        "data-dir": "data_dir",
        "store": "store_read",
        "download": "flag",
        "clear-cache": "flag",
        "json": "flag",
        "output": "output",
    },
    "corrupt": {
        "source": "image",
        "target": "folder",
        "corruption": "corruption",
        "severity": "severity",
        "resize": "pixels",
        "size": "pixels",
        "imagenet": "flag",
        "format": "choice",
        "seed": "seed",
        "workers": "threads",
        "quiet": "flag",
    },
    "train": {
        "out": "output",
        "model": "model",
        "from": "model",
        "tuning": "defense",
        "new-head": "flag",
        "distill": "model",
        "preset": "choice",
        "optimizer": "choice",
        "schedule": "choice",
        "final": "share",
        "logits": "output",
        "data": "data",
        "data-dir": "data_dir",
        "defense": "defense",
        "epochs": "epochs",
        "batch-size": "rows",
        "lr": "rate",
        "weight-decay": "rate",
        "warmup": "part",
        "rotation": "degrees",
        "scale": "part",
        "shift": "part",
        "layer-decay": "share",
        "clip": "rate",
        "accumulate": "count",
        "precision": "choice",
        "ema": "part",
        "eval-suite": "suite",
        "eval-data": "data",
        "eval-limit": "count",
        "every": "count",
        "keep-best": "flag",
        "seed": "seed",
        "device": "device",
        "stored": "choice",
        "log-to": "choice",
        "quiet": "flag",
    },
}


def parameters() -> dict[str, dict[str, bool]]:
    """The parameters of each command by their names, with whether they are arguments."""
    commands = leaf_commands(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    return {name: {_name(one): one.param_type_name == "argument" for one in command.params} for name, command in commands.items()}


def _name(param: Any) -> str:
    return str(param.name) if param.param_type_name == "argument" else max(param.opts, key=len).lstrip("-")


def hostile_calls(files: str) -> Iterator[Call]:
    """A call for each hostile value of each parameter of each command."""
    known, tried = values(files), set[str]()
    for command in sorted(parameters(), key=_ORDER.index):
        for name, is_argument in parameters()[command].items():
            if name == "help":
                continue
            kind = KINDS[command][name]
            hostile = known[kind][:: 1 if kind not in tried else _SOME]
            tried.add(kind)
            for value, reason in hostile:
                words = _words(command, name, value, is_argument, files)
                why = reason or _accepted(command, name, value)
                yield Call(f"{command} {name} {value[-60:]!r}", tuple(words), accepted=why, env={"COLUMNS": "200"})


_SOME = 5  # of the values of a kind, one in so many is tried again where another command takes that kind too
_ORDER = (
    "check",
    "plan",
    "leaderboard",
    "corrupt",
    "new",
    "list",
    "data",
    "compare",
    "diff",
    "card",
    "submit",
    "factors",
    "transfer",
    "report",
    "figure",
    "view",
    "status",
    "store stats",
    "store verify",
    "store compact",
    "store gc",
    "store merge",
    "store export",
    "run",
    "train",
)


def _accepted(command: str, name: str, value: str) -> str:
    """Why a command takes a value that others refuse; "" where it does not."""
    last = value.rpartition("/")[2]
    if command == "plan" and name == "store" and len(value) < 200 and last != "loop":
        return "plan writes nothing, and what is no store holds no rows"
    if command == "plan" and name == "checkpoint" and last in ("absent", "x", "folder", ""):
        return "plan lists models whose weights are not here"
    if command == "plan" and value == "hostile_models:integer_outputs":
        return "plan runs no model, and lists those whose weights are not here"
    if command == "view" and name == "store" and last in ("absent", "x", "folder", ""):
        return "view waits for a store that is not there yet"
    if name == "data-dir" and last in {"data": ("absent",), "plan": ("absent",)}.get(command, ()):
        return "digits needs no files"
    return ""


def _words(command: str, name: str, value: str, is_argument: bool, files: str) -> list[str]:
    """The words of a call that is right but for one value."""
    given = {
        "run": {"suite": f"{files}/tiny.yaml", "limit": "2", "store": "s"},
        "plan": {"suite": f"{files}/tiny.yaml", "limit": "2", "store": "s"},
        "leaderboard": {"store": f"{files}/store"},
        "factors": {"store": f"{files}/store"},
        "report": {"store": f"{files}/store"},
        "figure": {"store": f"{files}/store", "output": "figure.svg"},
        "compare": {"store": f"{files}/store"},
        "view": {"store": f"{files}/store", "for": "0.1s"},
        "status": {"store": f"{files}/store"},
        "transfer": {"store": f"{files}/store"},
        "store compact": {"store": f"{files}/store"},
        "store verify": {"store": f"{files}/store"},
        "store gc": {"store": f"{files}/store"},
        "store stats": {"store": f"{files}/store"},
        "store merge": {"into": "merged"},
        "store export": {"store": f"{files}/store", "to": "exported"},
        "corrupt": {"corruption": "fog", "severity": "1"},
        "train": {"out": "mine.safetensors", "epochs": "1", "model": RANDOM},
        "check": {},
        "diff": {},
        "card": {},
        "submit": {} if name == "against" else {"model": "a"},
        "list": {},
        "new": {},
        "data": {},
    }[command]
    given |= (
        {
            "checkpoint": {"model": "vit_tiny_patch16_224", "model-kwargs": "depth=1,embed_dim=24"},
            "model-kwargs": {"model": "vit_tiny_patch16_224?weights=random"},
            "num-classes": {"model": "vit_tiny_patch16_224?weights=random"},
            "surrogate": {"suite": "transfer-zoo", "data": "digits"},
            "resize": {"size": "8"},
            "factor": {"fit": "augreg"},
            "line": {"fit": "effective"},
        }.get(name, {})
        if command in ("run", "plan", "corrupt", "factors")
        else {}
    )
    arguments = {
        "compare": {"model_a": "a", "model_b": "b"},
        "diff": {"store_a": f"{files}/store", "store_b": f"{files}/store"},
        "list": {"kind": "attacks", "name": "pgd"},
        "new": {"kind": "attack", "name": "mine"},
        "corrupt": {"source": f"{files}/good.png", "target": "out"},
        "data": {"name": "digits"},
        "check": {"suites": f"{files}/tiny.yaml"},
        "card": {"store": f"{files}/store"},
        "submit": {"store": f"{files}/store"},
        "store merge": {"stores": f"{files}/store"},
    }.get(command, {})
    if is_argument:
        arguments[name] = value
    elif KINDS[command][name] == "flag":
        return [*command.split(), *_options(given), f"--{name}{value}", *_last(arguments)]
    else:
        given[name] = value
    if command == "data" and name in ("store",):
        return [command, "digits", "--verify", "--store", value]
    return [*command.split(), *_options(given), *_last(arguments)]


def _options(given: dict[str, str]) -> list[str]:
    return [word for name, value in given.items() for word in (f"--{name}", value)]


def _last(arguments: dict[str, str]) -> list[str]:
    return ["--", *arguments.values()] if arguments else []
