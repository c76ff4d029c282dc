"""Cards that keep what others wrote in them."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from robustvit.errors import UsageError
from robustvit.results.hub.card_text import BEGIN, END, read_card, with_results, with_section

CARD = """---
license: mit  # a comment
tags:
- vit
model-index:
- name: theirs
  results:
  - task:
      type: image-classification
    dataset:
      name: ImageNet
      type: imagenet-1k
    metrics:
    - type: accuracy
      value: 81.8
# another comment
library_name: timm
---
# Title

Text.
"""


def entry(value: float, evaluated_with: str = "robustvit 0.1.0") -> dict[str, Any]:
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": "imagenet", "type": "imagenet-1k", "config": "a: fog 1", "args": {"evaluated_with": evaluated_with}},
        "metrics": [{"type": "accuracy", "value": value}],
    }
    return {"name": "ours", "results": [result]}


def values(card: str) -> list[float]:
    found = ModelCard(card).data.eval_results
    return [one.metric_value for one in found or ()]


def test_the_rest_of_a_card_stays() -> None:
    made = with_results(with_section(CARD, "## Ours", "x"), entry(50.0), "x")
    assert "license: mit  # a comment\ntags:\n- vit\n" in made
    assert "library_name: timm\n" in made
    assert made.endswith(f"---\n# Title\n\nText.\n\n{BEGIN}\n## Ours\n{END}\n")
    assert values(made) == [81.8, 50.0]
    assert ModelCard(made).data.to_dict()["model-index"][0]["name"] == "theirs"


def test_a_second_time_replaces_the_first() -> None:
    once = with_results(with_section(CARD, "## Old", "x"), entry(50.0), "x")
    again = with_results(with_section(once, "## New", "x"), entry(60.0, "robustvit 0.2.0"), "x")
    assert again == once.replace("## Old", "## New").replace("value: 50.0", "value: 60.0").replace("robustvit 0.1.0", "robustvit 0.2.0")
    assert values(again) == [81.8, 60.0]


def test_text_after_the_section_stays() -> None:
    card = f"# A\n{BEGIN}\nold\n{END}\n\n## Licence\n"
    assert with_section(card, "new\n", "x") == f"# A\n{BEGIN}\nnew\n{END}\n\n## Licence\n"


@pytest.mark.parametrize("card", ["", "# Title\n", "---\n---\n# Title\n", "---\r\nlicense: mit\r\n---\r\n# Title\r\n"])
def test_a_card_without_results_gets_them(card: str) -> None:
    made = with_results(with_section(card, "## Ours", "x"), entry(50.0), "x")
    assert values(made) == [50.0]
    assert ModelCard(made).data.to_dict().get("license") == ("mit" if "mit" in card else None)
    assert ("# Title" in made) == ("# Title" in card)


@pytest.mark.parametrize("card", [BEGIN, END, f"{END} {BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_marks_that_are_no_pair_are_refused(card: str) -> None:
    with pytest.raises(UsageError, match="a card has one pair, in this order, or none"):
        with_section(card, "new", "README.md")


@pytest.mark.parametrize(
    ("front", "why"),
    [
        ("a: [", "no YAML"),
        ("- a", "is a list; it takes lines"),
        ("{license: mit}", "not written as lines"),
        ("model-index: 3", "takes a list of entries"),
        ("model-index:\n- name: a", "takes a list of entries"),
        ("model-index:\n- results: [3]", "a result in 'model-index'"),
    ],
)
def test_a_front_matter_of_another_form_is_refused(front: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"^README.md.*{why}"):
        with_results(f"---\n{front}\n---\n", entry(1.0), "README.md")


@given(
    st.dictionaries(
        st.from_regex(r"\A[a-z]{1,5}\Z"), st.one_of(st.text(max_size=8), st.lists(st.text(max_size=5)), st.integers()), max_size=4
    )
)
def test_any_front_matter_keeps_its_values(front: dict[str, Any]) -> None:
    text = yaml.safe_dump(front, allow_unicode=True) if front else ""
    made = with_results(f"---\n{text}---\nBody\n", entry(1.0), "x")
    inner, _, body = made[4:].rpartition("---\n")
    assert {key: value for key, value in yaml.safe_load(inner).items() if key != "model-index"} == (yaml.safe_load(text) or {})
    assert body == "Body\n"


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    assert read_card(tmp_path / "absent.md") == ""
    (tmp_path / "binary.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read as a model card"):
        read_card(tmp_path / "binary.md")
    with pytest.raises(UsageError, match="is a folder"):
        read_card(tmp_path)
