"""What the numbers depend on, from manifests and environments."""

from dataclasses import replace

import pytest

from robustvit.records.store import Store
from robustvit.report.provenance import provenance, web_link
from robustvit.results.leaderboard import leaderboard


@pytest.mark.parametrize(
    ("url", "kept"), [("https://arxiv.org", True), ("javascript:alert(1)", False), ("data:text/html,x", False), (None, False)]
)
def test_only_web_addresses_become_links(url: str | None, kept: bool) -> None:
    assert bool(web_link(url)) is kept


def test_provenance_names_the_command_and_the_machine(store: Store) -> None:
    (manifest,) = store.manifests()
    name = store.write_environment(
        {"versions": {"torch": "2.15"}, "hardware": {"cpu": "any"}, "switches": {"tf32": False}, "revision": "abc"}
    )
    store.write_manifest(replace(manifest, environment=name))
    found = provenance(store, leaderboard(store).assign(environment=name))
    assert found.runs[0].command == "robustvit run --model demo"
    assert dict(found.machines[0].facts) == {"versions": "torch 2.15", "CPU": "any", "TF32": "off", "revision": "abc"}
