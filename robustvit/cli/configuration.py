"""Options given once: in `robustvit.toml`, or `[tool.robustvit]` of `pyproject.toml`, in the current folder, and in the environment.

They become words of the command line, in front of those that were typed, so that a run records them. What is typed comes first, then the
environment, then the file; plan takes what is configured for run where nothing is for itself. A file comes with a folder, of whoever: it
cannot name code, nor allow it.
"""

from __future__ import annotations

import functools
import os
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import typer
from typer.core import TyperCommand

from robustvit.errors import UsageError, nearest
from robustvit.spec.code_names import names_code

PREFIX = "ROBUSTVIT"
_FILE, _PROJECT = "robustvit.toml", "pyproject.toml"
_YES, _NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
_NEVER, _HELP = ("allow-code",), ("-h", "--help")
_Variables = type("_Variables", (list,), {"__str__": lambda self: ", ".join(self)})  # of an option, as messages name them
_TAKES_FROM = {"plan": "run"}
"""Commands that describe what another one does, and so take its configuration."""
_OF_PRINTING = ("json", "output", "quiet")  # which each command has for itself


class _Option(NamedTuple):
    """An option of a command. words: as it is typed, the long one first; variables: of the environment, the first one counts; takes: what
    a command line makes of a value, or raises.
    """

    name: str
    words: tuple[str, ...]
    flag: bool
    several: bool
    variables: tuple[str, ...]
    takes: Callable[[Any], Any]

    def typed(self, given: Sequence[str]) -> bool:
        """Whether it is among typed words."""
        shorts = tuple(word for word in self.words if not word.startswith("--"))
        longs = tuple(word for word in self.words if word.startswith("--"))
        return any(
            word.partition("=")[0].replace("_", "-") in longs or (word[:2] in shorts and not word.startswith("--")) for word in given
        )


def with_configured(given: Sequence[str], commands: Mapping[str, Any]) -> list[str]:
    """The words of a command line with those that the environment and the current folder configure, behind the command's name.

    commands: by name, as typer makes them. Raises UsageError for a file that cannot be read, for keys that no command has, with the nearest
    that one has, for values that no option takes, and for the name of code.
    """
    place = next((i for i, word in enumerate(given) if word in commands), None)
    if place is None or any(word in _HELP for word in given):
        return list(given)
    leaves = leaf_commands(commands)
    name = given[place]
    if name not in leaves:  # its commands have names of two words
        place += 1
        name = " ".join(given[place - 1 : place + 1])
        if name not in leaves:
            return list(given)
    rest = given[place + 1 :]
    options = _options(leaves[name])
    known = _of_file({other: _options(one) for other, one in leaves.items()})
    words: list[str] = []
    for option in options.values():
        if option.typed(rest):
            continue
        variable = next((one for one in option.variables if one in os.environ), None)
        if variable is not None:
            words += _words(option, _of_environment(option, os.environ[variable], variable), variable)
        else:
            found = next((known[one][option.name] for one in (*_tables(name, option.name), "") if option.name in known.get(one, {})), None)
            words += [] if found is None else _words(option, found.value, found.where)
    return [*given[: place + 1], *words, *rest]


def _tables(command: str, option: str) -> tuple[str, ...]:
    """The commands whose configuration of an option counts for a command, the first one most."""
    other = _TAKES_FROM.get(command)
    return (command,) if other is None or option in _OF_PRINTING else (command, other)


def leaf_commands(commands: Mapping[str, Any]) -> dict[str, Any]:
    """The commands that have options, by name: those of a command of several by two words, `store compact`."""
    found: dict[str, Any] = {}
    for name, made in commands.items():
        inner = getattr(made, "commands", None)
        found |= {name: made} if inner is None else {f"{name} {other}": one for other, one in inner.items()}
    return found


class ConfiguredCommand(TyperCommand):
    """A command whose options, each by the name of its long word, have variables of the environment."""

    of: ClassVar[str] = ""  # the words before its name: "store " of `store compact`

    def __init__(self, name: str | None, **given: Any) -> None:
        super().__init__(name, **given)
        for option, one in _named_options(self):
            own = [one.envvar] if isinstance(one.envvar, str) else list(one.envvar or ())
            one.envvar = _Variables([*(_variable(of, option) for of in _tables(f"{self.of}{name}", option)), *own])


def _variable(command: str, option: str) -> str:
    """The variable of an option of a command: ROBUSTVIT_RUN_BATCH_SIZE of `run --batch-size`."""
    return "_".join((PREFIX, command, option)).replace("-", "_").replace(" ", "_").upper()


def _named_options(made: Any) -> Iterator[tuple[str, Any]]:
    """The options of a command by their name, which is the first long word without its hyphens."""
    for one in made.params:
        longs = [word for word in getattr(one, "opts", ()) if word.startswith("--")]
        if one.param_type_name == "option" and longs and longs[0] != "--help":
            yield longs[0].removeprefix("--"), one


def _options(made: Any) -> dict[str, _Option]:
    found = {}
    for name, one in _named_options(made):
        words = (f"--{name}", *(word for word in one.opts if word != f"--{name}"))
        takes = functools.partial(one.process_value, typer.Context(made))
        found[name] = _Option(name, words, one.is_flag, one.multiple, tuple(one.envvar), takes)
    return found


class _Given(NamedTuple):
    """A value of a file, and where it is."""

    value: object
    where: str


def _of_file(commands: Mapping[str, Mapping[str, _Option]]) -> dict[str, dict[str, _Given]]:
    """The values of the file of this folder by command, those for all of them under ""."""
    path, table = _table()
    found: dict[str, dict[str, _Given]] = {"": {}}
    every = {name for options in commands.values() for name in options}
    for key, value in _by_leaf(table, commands).items():
        tables = isinstance(value, dict)
        if key.replace("_", "-") not in (commands if tables else every):
            hint = nearest(key, commands) if tables else _nearest_option(key, commands.values())
            raise UsageError(f"{path}: no {'command' if tables else 'option'} is called '{key}'.{hint}")
        if not tables:
            found[""][key.replace("_", "-")] = _Given(value, f"{path}: {key}")
            continue
        for option, own in value.items():
            if option.replace("_", "-") not in commands[key]:
                raise UsageError(f"{path}: {key} has no option '{option}'.{nearest(option, commands[key])}")
            found.setdefault(key, {})[option.replace("_", "-")] = _Given(own, f"{path}: {key}.{option}")
    for one in (one for own in found.values() for one in own.items()):
        _refuse_code(*one)
    return found


def _nearest_option(key: str, commands: Iterable[Mapping[str, _Option]]) -> str:
    """The hint at options for all commands that are close to a key: those that several commands have, or else those of one."""
    counts = Counter(name for options in commands for name in options)
    return nearest(key, [name for name, count in counts.items() if count > 1]) or nearest(key, counts)


def _by_leaf(table: Mapping[str, Any], commands: Iterable[str]) -> dict[str, Any]:
    """The values of a file, the tables of commands of two words under these."""
    groups = {name.partition(" ")[0] for name in commands if " " in name}
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= {f"{key} {inner}": own for inner, own in value.items()} if key in groups and isinstance(value, dict) else {key: value}
    return found


def _table() -> tuple[str, dict[str, Any]]:
    """The name of the file of this folder, and what it says; nothing where there is none."""
    for name, keys in ((_FILE, ()), (_PROJECT, ("tool", "robustvit"))):
        try:
            table: Any = tomllib.loads(Path(name).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            if name == _PROJECT:  # of another project, which is not ours to judge
                continue
            raise UsageError(f"{name} cannot be read: {error}") from error
        for key in keys:
            table = table.get(key, {}) if isinstance(table, dict) else {}
        if isinstance(table, dict) and table:
            return name, table
    return "", {}


def _refuse_code(option: str, given: _Given) -> None:
    if option in _NEVER:
        raise UsageError(f"{given.where}: a file that lies in a folder cannot allow code to run; type --{option}.")
    for text in given.value if isinstance(given.value, list) else [given.value]:
        if isinstance(text, str) and names_code(text):
            raise UsageError(f"{given.where}: '{text}' is the name of code, which nothing but you may have run; type --{option}.")


def _of_environment(option: _Option, text: str, variable: str) -> object:
    """The value of a variable: of a flag yes or no, of an option that may be repeated its words."""
    if option.flag:
        if text.lower() not in (*_YES, *_NO):
            raise UsageError(f"{variable} is '{text}'; it takes {', '.join(filter(None, (*_YES, *_NO)))}.")
        return text.lower() in _YES
    return text.split() if option.several else text


def _words(option: _Option, value: object, where: str) -> list[str]:
    """The words of an option with a value."""
    if option.flag:
        if not isinstance(value, bool):
            raise UsageError(f"{where} is {value!r}; it takes true or false.")
        return [option.words[0]] if value else []
    values = list(_texts(value, where))
    if len(values) != 1 and not option.several:
        raise UsageError(f"{where} is a list of {len(values)}; --{option.name} takes one value.")
    _check(option, value, values, where)
    return [word for text in values for word in (option.words[0], text)]


def _check(option: _Option, value: object, texts: list[str], where: str) -> None:
    """Raises UsageError, with the place of a value, where the option does not take it: a number is no text, and no path."""
    try:
        taken = option.takes(texts if option.several else texts[0])
    except typer.BadParameter as error:
        raise UsageError(f"{where} is {_shown(value)}, which --{option.name} does not take: {error.message}") from error
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    given = value if isinstance(value, list) else [value]
    for one, made in zip(given, taken if option.several else [taken], strict=True):
        if not isinstance(one, str) and isinstance(made, str | os.PathLike):
            raise UsageError(f"{where} is {_shown(value)}; it takes a text, in quotes.")


def _shown(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else repr(value)


def _texts(value: object, where: str) -> Iterator[str]:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise UsageError(f"{where} is {one!r}; it takes a text, a number, or a list of them.")
        yield str(one)
