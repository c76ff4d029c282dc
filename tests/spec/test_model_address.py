"""What a person writes for a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import timm

from robustvit.errors import BadParameter, UnknownName, UsageError
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.model_address import ALIASES, parse_model, pipeline_of, write_model
from robustvit.spec.spec import Spec
from robustvit.spec.written.arguments import parse_kwargs, write_kwargs

ADDRESSES = [
    "vit_base_patch16_224",
    "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    "resnet50.a1_in1k?num_classes=1000&weights=random",
    "file:/models/mine.pth.tar?arch=deit_small_patch16_224&kwargs=depth=6,img_size=32&mean=0.5,0.25,0.125&std=0.5,0.5,0.5",
    "file:mine.safetensors",
    "hf/google/vit-base-patch16-224",
    "my_models.vit:robust_small?img_size=224&mean=0.5,0.5,0.5&std=0.5,0.5,0.5",
]


@pytest.mark.parametrize("text", ADDRESSES)
def test_writing_a_parsed_address_gives_it_back(text):
    assert write_model(parse_model(text)) == text


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_every_alias_is_an_architecture_of_timm_with_weights(alias, name):
    assert name in timm.list_models(pretrained=False)
    assert timm.get_pretrained_cfg(name).num_classes == 1000
    assert parse_model(alias) == Spec("timm", (("arch", name),))


def test_no_alias_hides_a_registered_model_or_an_architecture():
    assert not set(ALIASES) & (set(registry.entries("model")) | set(timm.list_models()))


@pytest.mark.parametrize(
    ("text", "kind", "key", "value"),
    [
        ("vit_b16", "timm", "arch", "vit_base_patch16_224"),
        ("swin_t.ms_in1k", "timm", "arch", "swin_t.ms_in1k"),
        ("hf/ORG/NAME", "hf", "name", "ORG/NAME"),
        ("file:a/b.pth?arch=vit_s16", "file", "path", "a/b.pth"),
        ("a.b.c:make", "factory", "target", "a.b.c:make"),
    ],
)
def test_each_form_has_its_loader(text, kind, key, value):
    spec = parse_model(text)
    assert (spec.name, spec.get(key)) == (kind, value)


def test_the_architecture_of_a_checkpoint_may_be_an_alias():
    assert parse_model("file:a.pth?arch=vit_s16") == parse_model("file:a.pth?arch=vit_small_patch16_224")


def test_one_number_is_used_for_three_channels():
    spec = parse_model("file:a.pth?mean=0.5&std=.25,.5,1/8")
    assert spec.get("mean") == (0.5, 0.5, 0.5)
    assert [float(value) for value in spec.get("std")] == [0.25, 0.5, 0.125]


def test_a_checkpoint_flag_is_the_same_as_a_file_address():
    flags = parse_model("vit_small_patch16_224", checkpoint=Path("mine.safetensors"))
    assert flags == parse_model("file:mine.safetensors?arch=vit_small_patch16_224")


def test_flags_join_the_parameters_of_the_address():
    flags = parse_model("vit_s16?kwargs=depth=6", model_kwargs={"img_size": 32}, num_classes=10)
    assert flags.get("kwargs") == "depth=6,img_size=32"
    assert flags.get("num_classes") == 10


@pytest.mark.parametrize("text", ["hf/a/b", "a.b:c", "file:x.pth?arch=vit_s16"])
def test_a_checkpoint_flag_needs_an_architecture_of_timm(text):
    with pytest.raises(BadParameter, match="--checkpoint gives weights to an architecture"):
        parse_model(text, checkpoint=Path("mine.pth"))


def test_two_sources_of_weights_are_refused():
    with pytest.raises(BadParameter, match="both say where the weights come from"):
        parse_model("vit_s16?weights=random", checkpoint=Path("mine.pth"))


def test_a_flag_may_not_contradict_the_address():
    with pytest.raises(BadParameter, match="num_classes=10, the flag says 7"):
        parse_model("vit_s16?num_classes=10", num_classes=7)


@pytest.mark.parametrize("text", ["", "  ", "file:", "hf/", "a b", "a/b/c", "https://x.org/a.pth", "?weights=random", "not a:model"])
def test_what_is_no_address_is_refused_with_the_forms_there_are(text):
    with pytest.raises(BadParameter, match=r"package\.module:factory"):
        parse_model(text)


@pytest.mark.parametrize("text", ["mine.safetensors", "./runs/mine.pth"])
def test_the_error_for_a_bare_path_shows_how_to_write_it(text):
    with pytest.raises(BadParameter, match=f"file:{text}"):
        parse_model(text)


@pytest.mark.parametrize("query", ["weights", "=3", "mean=a", "kwargs=depth", "kwargs=a-b=3", "a=1&a=2", "kwargs=a=1,a=2"])
def test_a_malformed_query_is_refused(query):
    with pytest.raises(BadParameter):
        parse_model(f"vit_b16?{query}")


def test_an_unknown_parameter_is_refused_at_bind_with_the_nearest_name():
    with pytest.raises(BadParameter, match="Did you mean 'weights'"):
        bind(registry.lookup("model", "timm"), parse_model("vit_b16?weight=random"))


@pytest.mark.parametrize("key", ["self", "spec", "name", "kind"])
def test_a_parameter_of_any_name_is_refused_at_bind_alone(key):
    with pytest.raises(BadParameter, match=f"has no parameter '{key}'"):
        bind(registry.lookup("model", "timm"), parse_model(f"vit_b16?{key}=3"))


def test_arguments_are_read_as_numbers_words_and_text_never_as_code():
    read = parse_kwargs("a=3, b=0.5,c=true,d=null,e='same',f=__import__('os')")
    assert read == {"a": 3, "b": 0.5, "c": True, "d": None, "e": "same", "f": "__import__('os')"}


def test_several_values_of_an_argument_stand_in_brackets():
    assert parse_kwargs("depths=[2, 2],num_heads=[2,4],act=[gelu],none=[]") == {
        "depths": (2, 2), "num_heads": (2, 4), "act": ("gelu",), "none": (),
    }  # fmt: skip
    assert write_kwargs({"num_heads": (2, 4), "depths": (2, True, None)}) == "depths=[2,true,null],num_heads=[2,4]"
    with pytest.raises(BadParameter, match=r"'depths' is .*takes numbers up to 65,536"):
        parse_kwargs("depths=[2,65537]")
    with pytest.raises(BadParameter, match="is not closed; write"):
        parse_kwargs("depths=[2,3")


def test_arguments_have_one_spelling():
    assert write_kwargs(parse_kwargs(" img_size = 32 ,depth=6,pad_type='same'")) == "depth=6,img_size=32,pad_type=same"
    assert write_kwargs(parse_kwargs(write_kwargs({"b": None, "a": True}))) == "a=true,b=null"


def test_reading_an_address_imports_neither_torch_nor_timm():
    code = "import sys, robustvit.spec.model_address as a; a.parse_model('vit_b16'); print({'torch', 'timm', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_registered_model_is_named_by_its_own_name():
    assert parse_model("timm?arch=vit_b16") == parse_model("vit_b16")


def test_addresses_as_the_hub_writes_them():
    own = parse_model("vit_base_patch16_224.augreg2_in21k_ft_in1k")
    assert parse_model("timm/vit_base_patch16_224.augreg2_in21k_ft_in1k") == own
    assert parse_model("hf-hub:timm/vit_base_patch16_224.augreg2_in21k_ft_in1k") == own
    assert parse_model("hf-hub:me/mine?crop_pct=1").get("arch") == "hf-hub:me/mine"
    assert write_model(parse_model("hf-hub:me/mine")) == "hf-hub:me/mine"
    with pytest.raises(BadParameter, match="hf-hub:ORG/NAME"):
        parse_model("hf-hub:mine")


def test_transforms_follow_an_address():
    spec = parse_model("vit_b16?weights=random+attention_temperature(temperature=2)+attention_temperature?temperature=1.5")
    assert [str(step) for step in pipeline_of(spec)] == ["attention_temperature(temperature=2)", "attention_temperature(temperature=1.5)"]
    assert all(step.kind == "transform" for step in pipeline_of(spec))
    assert spec.without("transforms") == parse_model("vit_b16?weights=random")
    assert parse_model(write_model(spec)) == spec
    assert pipeline_of(parse_model("demo")) == ()


def test_a_plus_in_a_path_is_written_as_an_escape():
    spec = parse_model("file:a%2Bb/c.pth?arch=vit_b16+attention_temperature(temperature=2)")
    assert spec.get("path") == "a+b/c.pth"
    assert parse_model(write_model(spec)) == spec
    with pytest.raises(UnknownName, match=r"no transform is called 'b\.pth'.* A \+ that is part of a path is written %2B"):
        parse_model("file:a+b.pth?arch=vit_b16")


@pytest.mark.parametrize(("address", "message"), [
    ("demo+attention_temperatur(temperature=2)", "Did you mean 'attention_temperature'"),
    ("demo+attention_temperature(temperature=2", r"'\(' is not closed.*quote the parentheses"),
    ("demo+attention_temperature(temperature=2))", r"'\)' closes nothing"),
    ("demo+attention_temperature", "needs 'temperature'"),
    ("demo+attention_temperature(temp=2)", "has no parameter 'temp'"),
    ("demo+attention_temperature(temperature=0)", "temperature"),
    ("demo+attention_temperature(2)", "'2' is no key=value"),
])  # fmt: skip
def test_a_pipeline_is_checked_where_it_is_read(address, message):
    with pytest.raises(UsageError, match=message):
        parse_model(address)
