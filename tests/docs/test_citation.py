"""CITATION.cff and the Dockerfile say what pyproject.toml does."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

import robustvit

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]


def test_the_citation_is_of_this_version_of_this_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert citation["version"] == robustvit.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    assert citation["keywords"] == PROJECT["keywords"]
    assert citation["title"].startswith(f"{PROJECT['name']}: ")


def test_the_image_gets_everything_that_the_package_is_built_from() -> None:
    ignored, *kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    needed = {*SETTINGS["tool"]["setuptools"]["package-dir"].values(), PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml"}
    assert ignored == "*"
    assert {line.removeprefix("!") for line in kept if line.startswith("!")} == needed


def test_the_image_runs_the_main_job_on_a_python_that_the_project_supports() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    (base,) = (line.removeprefix("FROM python:").removesuffix("-slim") for line in lines if line.startswith("FROM"))
    assert f"Programming Language :: Python :: {base}" in PROJECT["classifiers"]
    assert lines[-2:] == ['ENTRYPOINT ["robustvit"]', 'CMD ["run"]']
