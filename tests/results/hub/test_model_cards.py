"""The card of a stored model, and its push to a hub that notes its calls."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, ModelCard

from robustvit.errors import MissingExtra, StoreError, UsageError
from robustvit.records.store import Store
from robustvit.results.hub.model_cards import card_of, push_card

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


@pytest.fixture
def store(make_store: Make, answered: Columns) -> Store:
    cells: dict[Any, Any] = {("a", "clean", ""): answered([True] * 9 + [False])}
    cells |= {("a", "fog", str(level)): answered([True] * 5 + [False] * 5) for level in range(1, 6)}
    cells |= {("a", "pgd", "4/255"): answered([True] * 2 + [False] * 8, attacked=[True] * 9 + [False])}
    return make_store(cells, metrics=["top1", "robust_accuracy", "corruption_error", "mean_corruption_error"])


class Hub:
    """The calls of huggingface_hub.HfApi that a push makes, on a folder."""

    def __init__(self, folder: Path, readme: str | None) -> None:
        self.path, self.commits = folder / "README.md", list[dict[str, Any]]()
        if readme is not None:
            self.path.write_text(readme)

    def file_exists(self, repo_id: str, filename: str) -> bool:
        assert (repo_id, filename) == ("me/mine", "README.md")
        return self.path.exists()

    def hf_hub_download(self, repo_id: str, filename: str) -> str:
        return str(self.path)

    def upload_file(self, *, path_or_fileobj: bytes, path_in_repo: str, repo_id: str, commit_message: str) -> None:
        self.commits.append({"repo": repo_id, "path": path_in_repo, "message": commit_message})
        self.path.write_bytes(path_or_fileobj)


def test_a_card_has_the_headline_with_intervals_and_the_command(store: Store) -> None:
    card = ModelCard(card_of(store, ""))
    assert "| made-up | digits | clean | top1 in % | 90.0 \\[59.6, 98.2\\] | 10 |" in card.text
    assert "pgd 4/255 | robust\\_accuracy in % | 20.0" in card.text
    assert "fog 1" not in card.text
    assert "- `robustvit run --model demo`" in card.text
    assert {(one.dataset_config, one.metric_value) for one in card.data.eval_results or ()} == {
        ("made-up: clean", 90.0), ("made-up: pgd 4/255 (steps=10)", 20.0), ("made-up: average", 50.0),
    }  # fmt: skip


def test_a_push_changes_only_the_section_and_the_results(store: Store, tmp_path: Path) -> None:
    hub = Hub(tmp_path, "---\nlicense: mit\n---\n# Mine\n")
    assert push_card(store, "me/mine", model=None, suite=None, api=hub) == "me/mine"
    (commit,) = hub.commits
    assert (commit["repo"], commit["path"]) == ("me/mine", "README.md")
    once = hub.path.read_text()
    assert once.startswith("---\nlicense: mit\nmodel-index:\n")
    assert "# Mine\n" in once
    push_card(store, "me/mine", model="a", suite="made-up", api=hub)
    assert hub.path.read_text() == once


def test_a_repository_without_a_card_gets_one(store: Store, tmp_path: Path) -> None:
    hub = Hub(tmp_path, None)
    push_card(store, "me/mine", model=None, suite=None, api=hub)
    assert hub.path.read_text() == card_of(store, "")


def test_the_calls_are_those_of_huggingface_hub() -> None:
    import inspect

    for name in ("file_exists", "hf_hub_download", "upload_file"):
        own, theirs = inspect.signature(getattr(Hub, name)).parameters, inspect.signature(getattr(HfApi, name)).parameters
        assert set(own) <= set(theirs), name


@pytest.mark.parametrize("error", [OSError("401 Unauthorized\nmore"), ValueError("Repo id must be"), None])
def test_a_hub_that_refuses_is_one_line(store: Store, tmp_path: Path, error: Exception | None) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    network = next(one for one in HfHubHTTPError.__mro__[1:] if one.__name__ in ("HTTPError", "RequestException"))

    class Refusing(Hub):
        def upload_file(self, **_: Any) -> None:
            raise error or network("no route")

    with pytest.raises(UsageError, match=r"^the hub takes no card for me/mine: [^\n]*$"):
        push_card(store, "me/mine", model=None, suite=None, api=Refusing(tmp_path, "# Mine\n"))
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


def test_without_the_package_it_is_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"^--push needs huggingface_hub: python3 -m pip install"):
        push_card(store, "me/mine", model=None, suite=None)


def test_of_several_models_one_is_chosen(make_store: Make, answered: Columns) -> None:
    store = make_store({(model, "clean", ""): answered([True] * 4) for model in ("a", "b → soft")}, name="two")
    with pytest.raises(UsageError, match=r"the store has a, b\+soft; choose with --model"):
        card_of(store, "")
    assert ModelCard(card_of(store, "", model="b")).data.model_name == "b+soft"


def test_a_store_without_a_number_is_refused(make_store: Make) -> None:
    store = make_store({("a", "clean", ""): None}, name="none")
    with pytest.raises(StoreError, match="has no complete number of a yet"):
        card_of(store, "", model="a")
