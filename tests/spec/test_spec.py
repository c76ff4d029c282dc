from fractions import Fraction

import pytest

from robustvit.errors import BadParameter
from robustvit.spec.spec import Spec, canonical, digest, parse, revive, show
from robustvit.spec.written.call import called


def test_a_name_is_a_spec() -> None:
    assert parse("fog") == [Spec("fog")]


def test_lists_are_axes_and_several_axes_multiply() -> None:
    specs = parse({"pgd": {"eps": ["1/255", "2/255"], "steps": [10, 20]}})
    assert [(spec.get("eps"), spec.get("steps")) for spec in specs] == [("1/255", 10), ("1/255", 20), ("2/255", 10), ("2/255", 20)]


def test_a_list_in_a_list_is_one_value() -> None:
    assert parse({"probe": {"layers": [[3, 6, 9]]}}) == [Spec("probe", (("layers", (3, 6, 9)),))]


def test_a_mapping_in_an_argument_is_a_nested_spec() -> None:
    (spec,) = parse({"transfer": {"attack": {"pgd": {"eps": "4/255"}}}})
    assert spec.get("attack") == Spec("pgd", (("eps", "4/255"),))


@pytest.mark.parametrize("node", [{"a": {}, "b": {}}, 3, {"pgd": 4}, {"pgd": {"eps": []}}])
def test_other_shapes_are_refused_with_their_place(node: object) -> None:
    with pytest.raises(BadParameter, match=r"x\.yaml:7: "):
        parse(node, "x.yaml:7")


def test_where_a_spec_was_written_is_no_part_of_its_identity() -> None:
    assert parse("fog", "a.yaml:1")[0] == parse("fog", "b.yaml:2")[0]


def test_canonical_form_round_trips() -> None:
    spec = Spec(
        "pgd", (("eps", Fraction(4, 255)), ("inner", Spec("fog", (("severity", 3),), "corruption", 1)), ("layers", (1, 2))), "attack", 2
    )
    assert revive(canonical(spec)) == spec


def test_a_fraction_is_not_the_float_beside_it() -> None:
    assert digest(Fraction(4, 255)) != digest(4 / 255)


def test_digests_are_the_same_in_every_process() -> None:
    assert digest({"b": 1, "a": [Spec("fog"), 0.1]}) == "50ad59795acf63d502f1"


@pytest.mark.parametrize(
    ("value", "text"),
    [(Fraction(4, 255), "4/255"), (Fraction(1, 510), "0.5/255"), (Fraction(1, 3), "1/3"), (0.25, "0.25"), ((3, 6), "[3, 6]")],
)
def test_values_are_shown_as_people_write_them(value: object, text: str) -> None:
    assert show(value) == text  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["pgd(eps=4/255, steps=3)", "pgd?eps=4/255&steps=3", " pgd( eps = 4/255 ,steps=3)"])
def test_a_call_is_written_with_brackets_or_a_question_mark(text: str) -> None:
    assert called(text, "x") == Spec("pgd", (("eps", "4/255"), ("steps", "3")))


def test_a_sequence_in_brackets_is_one_value() -> None:
    assert called("evit(loc=[3, 6, 9], keep=0.7)", "x") == called("evit?loc=3,6,9&keep=0.7", "x")
    assert called("plain()", "x") == called("plain", "x") == Spec("plain")
