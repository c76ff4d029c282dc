"""The keys that a suite file may have, and their types."""

from __future__ import annotations

import reprlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustvit.errors import SuiteError, nearest
from robustvit.spec import yaml_reader
from robustvit.spec.coercion import LARGEST_SEED
from robustvit.spec.given import LONGEST_NAME

_Data = str | dict[str, Any] | Annotated[list[str | dict[str, Any]], Field(min_length=1)]
_Through = Literal["own", "host"]
_Stored = Literal["float32", "uint8"]
_Scenarios = Annotated[list[Any], Field(min_length=1)]


class PartKeys(BaseModel):
    """The keys of a part of a suite."""

    model_config = ConfigDict(extra="forbid", strict=True)

    data: _Data
    scenarios: _Scenarios


class SuiteKeys(BaseModel):
    """The keys of a suite, with their types; what they name is not looked up."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=LONGEST_NAME - 55)]
    title: str
    version: Annotated[int, Field(ge=1, le=2**31)] = 1
    data: _Data | None = None
    scenarios: _Scenarios | None = None
    parts: Annotated[list[PartKeys], Field(min_length=1)] | None = None
    metrics: Annotated[list[Any], Field(min_length=1)]
    transforms: list[list[Any]] = []
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=LARGEST_SEED)]], Field(min_length=1, max_length=1000)] = [0]
    view: dict[str, Any] = {}
    limit: Annotated[int, Field(ge=1, le=LARGEST_SEED)] | None = None
    storage: str | None = None
    attack_through: _Through | Annotated[list[_Through], Field(min_length=1, max_length=2)] = "own"
    surrogates: str | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    stored_as: _Stored | Annotated[list[_Stored], Field(min_length=1, max_length=2)] = "float32"
    surrogate_labels: Literal["data", "predicted"] = "data"
    fixed_data: bool = False
    paper: str = ""
    url: str = ""
    licence: str = ""
    citation: str = ""
    rules: str = ""


def checked_keys(page: yaml_reader.Map) -> SuiteKeys:
    """The keys of a suite file's page. Raises SuiteError, with the line, for a key that is unknown, missing or of another type."""
    model: type[BaseModel]
    empty = next((key for key in ("data", "scenarios", "parts") if key in page and page[key] is None), None)
    if empty:
        raise SuiteError(f"{page.places[empty]}: '{empty}' is empty; give it a value, or leave the key out.")
    try:
        return SuiteKeys.model_validate(dict(page))
    except ValidationError as error:
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a misspelt key explains a missing one
        key = str(first["loc"][0]) if first["loc"] else ""
        what, model, place = "suite", SuiteKeys, page.places.get(key, page.where)
        if key == "parts" and len(first["loc"]) == 3:
            what, model, place, key = "part of a suite", PartKeys, page["parts"].places[first["loc"][1]], str(first["loc"][2])
        if first["type"] == "extra_forbidden":
            keys = list(model.model_fields)
            raise SuiteError(f"{place}: a {what} has no key '{key}'.{nearest(key, keys)} It takes {', '.join(keys)}.") from error
        if first["type"] == "missing":
            raise SuiteError(f"{place}: a {what} needs the key '{key}'.") from error
        path = ".".join(str(part) for part in first["loc"])
        raise SuiteError(f"{place}: {path}: {first['msg']}; got {reprlib.repr(first['input'])}.") from error
