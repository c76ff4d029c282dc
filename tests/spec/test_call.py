"""Names with arguments as people write them."""

from __future__ import annotations

import pytest

from robustvit.errors import BadParameter
from robustvit.spec.spec import Spec
from robustvit.spec.written.call import called, split_outside


def test_values_may_have_arguments_of_their_own() -> None:
    found = called("static_int8(calibration=digits?split=train&part=calibration, blocks=[1, 2], attack=pgd(eps=1/255, steps=2))", "x")
    assert found == Spec("static_int8", (
        ("attack", "pgd(eps=1/255, steps=2)"), ("blocks", ("1", "2")), ("calibration", "digits?split=train&part=calibration"),
    ))  # fmt: skip


@pytest.mark.parametrize(("text", "message"), [
    ("a(b=(1)", "is not closed"), ("a(b=1])", "closes nothing"), ("a(b)", "no key=value"), ("a(b=1, b=2)", "occurs twice"),
    ("a(=1)", "no key=value"), ("a?", "nothing after"),
])  # fmt: skip
def test_what_is_no_call_is_refused(text, message) -> None:
    with pytest.raises(BadParameter, match=message):
        called(text, "thing")


def test_quotation_marks_keep_a_value_whole() -> None:
    spec = called('distillation(teacher="file:a, (b.safetensors?kwargs=depth=2,num_heads=3", alpha=0.3)', "defense")
    assert spec.params == (("alpha", "0.3"), ("teacher", "file:a, (b.safetensors?kwargs=depth=2,num_heads=3"))
    with pytest.raises(BadParameter, match="'\"' is not closed"):
        called('distillation(teacher="file:a)', "defense")


@pytest.mark.parametrize("text", ["pgd_at(eps=8/255", "pgd_at(eps=8/255)+sam", "sam()x"])
def test_a_parenthesis_that_is_not_closed_is_told(text: str) -> None:
    with pytest.raises(BadParameter, match="its parenthesis is not closed, or something follows it; write NAME"):
        called(text, "defense")


def test_splitting_leaves_what_is_in_brackets_whole() -> None:
    assert split_outside("a+b(c+d[e+f])+g", r"\+") == ["a", "b(c+d[e+f])", "g"]
    assert split_outside("", r"\+") == [""]
    for text in ("a(b", "a)b", "a(b]"):
        with pytest.raises(ValueError, match="close"):
            split_outside(text, r"\+")


def test_an_empty_list_is_a_sequence_of_nothing() -> None:
    assert called("t(layers=[], blocks=[ ])", "transform").params == (("blocks", ()), ("layers", ()))
