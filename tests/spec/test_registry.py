from fractions import Fraction
from pathlib import Path
from typing import Annotated

import pytest
from annotated_types import Gt

import robustvit as rv
from robustvit.cli.commands import catalogue
from robustvit.cli.commands.catalogue import plugin_page
from robustvit.errors import BadParameter, MissingExtra, UnknownName
from robustvit.spec import discovery, registry
from robustvit.spec.binding import bind
from robustvit.spec.plugin import KINDS, Adapted
from robustvit.spec.registry import entries, lookup, register, scenario_entry
from robustvit.spec.schema import Hint, Param, SourceModule, hint_of
from robustvit.spec.spec import Spec, parse


@rv.attack(severity="eps", source="nobody")
def nudge(
    model, images, labels, draws, *, eps: Annotated[float, Gt(0)], steps: int = 3, layers: tuple[int, ...] = (1, 2), loud: bool = False
):  # type: ignore[no-untyped-def]
    """Nudges."""
    return images


ASKED: list[str] = []


@rv.attack(name="shop/", severity="eps", family="library", source="nobody")
def shop(name: str) -> Adapted:
    """Fruit of the shop."""
    ASKED.append(name)
    if name == "melon":
        raise MissingExtra("melons need the extra.")
    if name != "pear":
        raise UnknownName(f"the shop has no '{name}'.")
    return Adapted(lambda *given, **params: params, (Param("eps", Hint("a number", base="float"), 0.5),), "A pear.\n\nGreen.")


def bound(**params: object) -> Spec:
    (spec,) = parse({"nudge": params}, "x.yaml:9")
    return bind(lookup("attack", "nudge"), spec)


def test_built_ins_are_found_without_importing_them() -> None:
    assert {"fgsm", "pgd"} <= set(entries("attack"))


def test_the_signature_is_the_schema() -> None:
    assert dict(bound(eps="4/255").params) == {"eps": Fraction(4, 255), "steps": 3, "layers": (1, 2), "loud": False}


def test_reading_the_source_gives_the_same_schema_as_importing_it() -> None:
    announced = entries("attack")["pgd"]
    live = registry._entry_of("attack", announced.load(), {"severity": "eps"})
    assert {param.name: (param.hint, param.default) for param in live.params} == {
        param.name: (param.hint, param.default) for param in announced.params
    }


@pytest.mark.parametrize("source", ["import robustvit as rv\n", "from robustvit import Severity\n"])
def test_a_type_of_the_facade_is_read_as_what_it_stands_for(source: str) -> None:
    name = "rv.Severity" if "as rv" in source else "Severity"
    assert hint_of(name, SourceModule(source)).choices == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(("given", "message"), [
    ({"eps": 0.1, "step": 1}, "no parameter 'step'. Did you mean 'steps'"),
    ({}, "needs 'eps'"),
    ({"eps": 0}, "takes a number > 0"),
    ({"eps": "much"}, "takes a number"),
    ({"eps": 0.1, "steps": 2.5}, "takes a whole number"),
    ({"eps": 0.1, "loud": 1}, "takes true or false"),
    ({"eps": 0.1, "layers": 3}, r"is one value: .* write \[\[3\]\], in an address \[3\]"),
    ({"eps": None}, "is null"),
])  # fmt: skip
def test_wrong_parameters_are_refused_at_the_door(given: dict[str, object], message: str) -> None:
    with pytest.raises(BadParameter, match=message) as caught:
        bound(**given)
    assert str(caught.value).startswith("x.yaml:9: ")


def test_a_choice_names_what_it_takes() -> None:
    with pytest.raises(BadParameter, match=r"norm is linff; it takes one of linf, l2, l1. Did you mean 'linf'"):
        bind(lookup("attack", "pgd"), parse({"pgd": {"eps": "1/255", "norm": "linff"}})[0])


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'fgsm'"):
        scenario_entry("fgms")


def test_a_name_of_another_kind_is_told() -> None:
    with pytest.raises(UnknownName, match="That is the name of an attack"):
        lookup("metric", "pgd")


def test_an_adapter_makes_plug_ins_of_the_names_behind_its_slash() -> None:
    entry = scenario_entry("shop/pear")
    assert (entry.kind, entry.name, entry.family, entry.severity, entry.summary) == ("attack", "shop/pear", "library", "eps", "A pear.")
    assert lookup("attack", "shop/pear") is entry
    spec = bind(entry, parse({"shop/pear": {"eps": "1/4"}})[0])
    assert (spec.kind, spec.get("eps")) == ("attack", Fraction(1, 4))
    assert entry.load()(eps=1) == {"eps": 1}


def test_what_an_adapter_refuses_is_told_with_its_place() -> None:
    with pytest.raises(UnknownName, match=r"^x\.yaml:7: the shop has no 'plum'"):
        scenario_entry("shop/plum", "x.yaml:7")
    with pytest.raises(MissingExtra, match=r"^x\.yaml:7: melons need the extra"):
        lookup("attack", "shop/melon", "x.yaml:7")
    with pytest.raises(UnknownName, match="the shop has no ''"):
        scenario_entry("shop/")
    with pytest.raises(UnknownName, match="no corruption, attack, certificate or analysis is called 'stall/pear'"):
        scenario_entry("stall/pear")
    with pytest.raises(UnknownName, match="no metric is called 'shop/pear'"):
        lookup("metric", "shop/pear")


def test_listing_asks_an_adapter_nothing_and_shows_one_line() -> None:
    ASKED.clear()
    (row,) = [row for row in catalogue.index("attacks") if row["name"].startswith("shop")]
    assert row == {"name": "shop/NAME", "family": "library", "what": "Fruit of the shop."}
    assert catalogue.about("attacks", "shop/NAME")["doc"] == "Fruit of the shop."
    assert ASKED == []
    assert catalogue.about("attacks", "shop/pear")["parameters"]["eps"]["takes"] == "a number"


def test_unknown_kinds_and_fields_are_refused() -> None:
    with pytest.raises(BadParameter, match="Did you mean 'attack'"):
        register("atack")
    with pytest.raises(BadParameter, match="no field 'sevrity'"):
        register("attack", sevrity="eps")


def test_a_name_is_registered_for_one_function() -> None:
    def other(images, draws):  # type: ignore[no-untyped-def]
        """Another one."""

    with pytest.raises(BadParameter, match=r"two plug-ins claim the attack 'nudge': .*:nudge \(line \d+\) and .*:other \(line"):
        register("attack", name="nudge")(other)
    with pytest.raises(BadParameter, match=r"claim the corruption 'fog': robustvit\.corruptions.* Give one of them another name"):
        register("corruption", name="fog")(other)
    assert lookup("attack", "nudge").load() is nudge
    assert lookup("corruption", "fog").module.startswith("robustvit.")


def test_a_function_defined_anew_in_its_module_takes_its_own_place() -> None:
    def made() -> object:
        @rv.corruption(name="remade", source="nobody")
        def remade(images, draws):  # type: ignore[no-untyped-def]
            """Does nothing."""
            return images

        return remade

    made()
    assert made() is lookup("corruption", "remade").load()
    registry._LIVE.pop(("corruption", "remade"))


SMUDGE = 'from robustvit import corruption\n\n@corruption(source="nobody")\ndef smudge(images, draws):\n    return images\n\n'


@pytest.mark.parametrize("places", [("one.py", "two.py"), ("one.py", "one.py")])
def test_two_announced_plug_ins_of_one_name_are_refused(places: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in places:
        with (tmp_path / place).open("a") as file:
            file.write(
                'from robustvit import corruption\n\n@corruption(source="nobody")\ndef smudge(images, draws):\n    return images\n\n'
            )
    modules = [(path.stem, path) for path in sorted(tmp_path.iterdir())]
    monkeypatch.setattr(discovery, "_modules", lambda: iter(modules))
    with pytest.raises(UnknownName, match="two plug-ins claim the corruption 'smudge': one:smudge"):
        discovery.announced_entries.__wrapped__()


def test_a_file_that_is_announced_twice_is_one_plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.py").write_text(
        'from robustvit import corruption\n\n@corruption(source="nobody")\ndef smudge(images, draws):\n    pass\n'
    )
    monkeypatch.setattr(discovery, "_modules", lambda: iter([("one", tmp_path / "one.py")] * 2))
    assert [name for _, name in discovery.announced_entries.__wrapped__()] == ["smudge"]


def test_every_plug_in_describes_itself() -> None:
    for kind in KINDS:
        for entry in entries(kind).values():
            page = plugin_page(entry)
            assert page["doc"], entry.name
            assert entry.load() is not None


TABLED = 'from robustvit import model\n\n@model(table="t.json", source="nobody")\ndef one(name):\n    """Any of them."""\n    return name\n'


def test_each_name_in_a_table_is_a_plug_in_whose_function_gets_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tabled.py").write_text(TABLED)
    (tmp_path / "t.json").write_text('{"pet": {"doc": "A pet."}, "pet/cat": {"doc": "A cat.", "source": "a shelter"}}')
    monkeypatch.setattr(discovery, "_modules", lambda: iter([("tabled", tmp_path / "tabled.py")]))
    monkeypatch.syspath_prepend(str(tmp_path))
    found = discovery.announced_entries.__wrapped__()
    monkeypatch.setattr(registry, "announced_entries", lambda: found)
    assert [(name, entry.doc, entry.source) for (_, name), entry in found.items()] == [
        ("pet", "A pet.", "nobody"),
        ("pet/cat", "A cat.", "a shelter"),
    ]
    assert found["model", "pet/cat"].load()() == "pet/cat"
    assert ("model", "one") not in registry._LIVE


@pytest.mark.parametrize("text", [None, "[", "[]", '{"a": {}}', '{"a": 1}'])
def test_a_file_that_is_no_table_is_refused(text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tabled.py").write_text(TABLED)
    if text is not None:
        (tmp_path / "t.json").write_text(text)
    monkeypatch.setattr(discovery, "_modules", lambda: iter([("tabled", tmp_path / "tabled.py")]))
    with pytest.raises(BadParameter, match=r"t\.json is no table of models"):
        discovery.announced_entries.__wrapped__()


def test_a_table_of_a_module_that_is_not_announced_is_refused() -> None:
    with pytest.raises(BadParameter, match="'kept' has a table, which is read of announced modules alone"):

        @rv.model(table="t.json", source="nobody")
        def kept(name: str) -> object:
            """Any of them."""
            return name
