"""The layouts and names of model-vs-human, the responses of people, and what is refused."""

from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from model_vs_human import Shown, plant_clone, plant_responses, plant_set, shown_images

from robustvit.data import model_vs_human as human
from robustvit.data.annotations.model_vs_human_names import parse_in_folder, parse_session, plain_condition
from robustvit.data.annotations.wnids import wnids
from robustvit.data.model_vs_human import categories, model_vs_human, reading, stimulus_sets
from robustvit.errors import DataMissing, DataUnreadable, ModelError
from robustvit.primitives.batch import traits


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return plant_clone(tmp_path_factory.mktemp("clone"))


def bottles(*conditions: str) -> list[Shown]:
    return [Shown("bottle", condition, f"n0{i}_7") for i, condition in enumerate(conditions)]


def test_there_are_seventeen_sets_and_the_parameter_names_them():
    hints = get_type_hints(human.model_vs_human, include_extras=True)
    assert get_args(hints["stimuli"]) == tuple(stimulus_sets())
    assert sum(one.expected for one in stimulus_sets().values()) == 9 * 1280 + 3 * 1120 + 2 * 800 + 2 * 160 + 1280


def test_the_sixteen_categories_share_two_hundred_and_seven_classes():
    groups = dict(zip(categories(), reading().groups, strict=True))
    assert sorted(groups) == list(groups)
    assert sum(len(group) for group in groups.values()) == len({index for group in groups.values() for index in group}) == 207
    assert {name: groups[name] for name in ("airplane", "bear", "keyboard", "oven")} == {
        "airplane": (404,), "bear": (294, 295, 296, 297), "keyboard": (508, 878), "oven": (766,),
    }  # fmt: skip


def test_a_category_has_the_mean_probability_of_its_classes():
    logits = 3 * torch.randn(50, 1000, generator=torch.Generator().manual_seed(0))
    p = np.exp(logits.double().numpy())
    p /= p.sum(axis=1, keepdims=True)
    expected = np.stack([p[:, list(group)].mean(axis=1) for group in reading().groups], axis=1)
    assert np.allclose(reading().read(logits).exp().numpy(), expected, rtol=1e-9)


def test_many_unlikely_classes_do_not_outvote_one_likely_class():
    logits = torch.full((1, 1000), -10.0)
    logits[0, [wnids().index("n02690373"), *reading().groups[categories().index("dog")]]] = torch.tensor([2.0] + [1.0] * 109)
    assert categories()[int(reading().read(logits).argmax())] == "airplane"


@pytest.mark.parametrize("stimuli", list(stimulus_sets()))
def test_every_set_opens_in_the_layout_of_the_release(stimuli, clone):
    data = model_vs_human(clone, stimuli=stimuli)
    own = traits(data)
    assert [data.classes[label] for label in data.labels] == ["airplane", "bear", "cat"]
    assert list(data.ids) == [f"model-vs-human/{stimuli}/{one.image}" for one in shown_images(stimuli)]
    assert (own.base, own.scenario, own.cut, own.expected) == ("model-vs-human", stimuli, 224, stimulus_sets()[stimuli].expected)
    assert own.facts["fact_humans"] == [[-1, 0, 0], [1, 1, -1], [7, -1, 7]]
    assert data[0].image.shape == (224, 224, 3)


def test_conditions_are_spelt_as_in_the_table_and_marked_where_they_count(tmp_path):
    plant_set(tmp_path, "uniform-noise", bottles("0.00", "0.10", "0.90"))
    facts = traits(model_vs_human(tmp_path, stimuli="uniform-noise")).facts
    assert facts == {"fact_condition": ["0", "0.1", "0.9"], "fact_counted": [0, 1, 0]}


def test_a_set_without_conditions_has_one_that_counts(tmp_path):
    plant_set(tmp_path, "sketch", shown_images("sketch"))
    facts = traits(model_vs_human(tmp_path, stimuli="sketch")).facts
    assert facts == {"fact_condition": ["", "", ""], "fact_counted": [1, 1, 1]}


def test_a_cue_conflict_has_its_texture_as_a_fact(clone):
    data = model_vs_human(clone)
    assert [categories()[i] for i in traits(data).facts["fact_texture"]] == ["bicycle", "truck", "cat"]


def test_the_sets_may_lie_in_one_folder_with_the_responses(tmp_path):
    (plant_clone(tmp_path / "clone") / "datasets").rename(tmp_path / "flat")
    (tmp_path / "clone/raw-data").rename(tmp_path / "flat/raw-data")
    assert "fact_humans" in traits(model_vs_human(tmp_path / "flat", stimuli="edge")).facts


def test_the_responses_change_the_fingerprint(tmp_path):
    shown = shown_images("edge")
    plant_set(tmp_path, "edge", shown)
    marks = [model_vs_human(tmp_path, stimuli="edge").fingerprint]
    for response in ("clock", "knife"):
        plant_responses(tmp_path, "edge", shown, [[response] * 3])
        marks.append(model_vs_human(tmp_path, stimuli="edge").fingerprint)
    assert len(set(marks)) == 3


def test_images_and_responses_are_joined_by_name_and_not_by_position(tmp_path):
    shown = shown_images("colour")
    plant_set(tmp_path, "colour", shown)
    plant_responses(tmp_path, "colour", shown[::-1], [["cat", "na", "oven"]])
    assert traits(model_vs_human(tmp_path, stimuli="colour")).facts["fact_humans"] == [[categories().index("oven")], [-1], [7]]


def test_a_table_of_responses_may_begin_with_a_byte_order_mark(tmp_path):
    shown = shown_images("colour")
    plant_set(tmp_path, "colour", shown)
    plant_responses(tmp_path, "colour", shown, [["cat", "na", "oven"]])
    before = model_vs_human(tmp_path, stimuli="colour").fingerprint
    (table,) = (tmp_path / "raw-data/colour").glob("*.csv")
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert model_vs_human(tmp_path, stimuli="colour").fingerprint == before


def test_responses_to_images_that_are_not_here_do_not_count(tmp_path):
    shown = shown_images("colour")
    plant_set(tmp_path, "colour", shown[:2])
    plant_responses(tmp_path, "colour", shown, [["cat", "na", "oven"]])
    assert traits(model_vs_human(tmp_path, stimuli="colour")).facts["fact_humans"] == [[7], [-1]]


def test_tables_of_models_beside_those_of_people_are_not_read(tmp_path):
    plant_clone(tmp_path)
    (tmp_path / "raw-data/edge/edge_resnet50_session-1.csv").write_text("nonsense")
    assert len(traits(model_vs_human(tmp_path, stimuli="edge")).facts["fact_humans"][0]) == 3


def test_a_missing_set_is_named_with_how_many_are(tmp_path):
    plant_set(tmp_path, "edge", shown_images("edge"))
    with pytest.raises(DataMissing, match=r"holds contrast/; 16 of the 17 sets are missing: colour, contrast, "):
        model_vs_human(tmp_path, stimuli="contrast")
    with pytest.raises(DataMissing, match="it holds no folders"):
        model_vs_human(tmp_path / "datasets/edge/cat", stimuli="edge")


def test_a_set_without_its_inner_folder_is_refused(tmp_path):
    (tmp_path / "colour/train").mkdir(parents=True)
    with pytest.raises(DataMissing, match=r"holds train; the images of colour lie in dnn/session-1/"):
        model_vs_human(tmp_path, stimuli="colour")


def test_unknown_categories_are_counted(tmp_path):
    plant_set(tmp_path, "colour", [*bottles("bw", "cr"), Shown("zebra", "bw", "n09_1"), Shown("bottel", "bw", "n09_2")])
    with pytest.raises(
        DataUnreadable, match=r"2 of 4 images have categories that are none of the 16: bottel, zebra. Did you mean 'bottle'"
    ):
        model_vs_human(tmp_path, stimuli="colour")


def test_unknown_textures_are_counted(tmp_path):
    plant_set(tmp_path, "cue-conflict", [Shown("cat", "0", "cat1-zebra2"), Shown("cat", "0", "cat1-dog2"), Shown("cat", "0", "cat7")])
    with pytest.raises(DataUnreadable, match="2 of 3 images have textures that are none of the 16: , zebra"):
        model_vs_human(tmp_path)


def test_unknown_conditions_are_counted(tmp_path):
    plant_set(tmp_path, "contrast", bottles("c50", "c51"))
    with pytest.raises(DataUnreadable, match=r"1 of 2 images have conditions that are none of the 8: c51\. Did you mean"):
        model_vs_human(tmp_path, stimuli="contrast")


def test_other_names_are_counted(tmp_path):
    plant_set(tmp_path, "colour", bottles("bw"))
    (tmp_path / "datasets/colour/dnn/session-1/oven_1.png").write_bytes(b"x")
    with pytest.raises(DataUnreadable, match=r"1 of 2 images are not named as the release names them: session-1/oven_1\.png"):
        model_vs_human(tmp_path, stimuli="colour")


def test_an_image_in_the_folder_of_another_category_is_refused(tmp_path):
    plant_set(tmp_path, "edge", [Shown("cat", "0", "dog1"), Shown("cat", "0", "cat1")])
    with pytest.raises(DataUnreadable, match=r"1 of 2 images lie in the folder of another category: dog1 in cat/"):
        model_vs_human(tmp_path, stimuli="edge")


def test_an_image_twice_is_refused(tmp_path):
    plant_set(tmp_path, "colour", [Shown("cat", "bw", "n01_1"), Shown("cat", "cr", "n01_1")])
    with pytest.raises(DataUnreadable, match=r"model-vs-human/colour/n01_1"):
        model_vs_human(tmp_path, stimuli="colour")


def test_a_model_of_other_classes_is_refused():
    with pytest.raises(ModelError, match="1000 logits"):
        reading().check(10, "digits", "model-vs-human")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([["airplane", "beer", "cat"]], r"1 of 3 rows have responses that are no category: edge_subject-01_session_1\.csv:3"),
        ([["airplane", "bear"]], r"1 of 1 people lack responses to some of the 3 images: subject-01 1 \(cat3, …\)"),
        ([["cat"] * 3, ["cat"]], r"1 of 2 people lack responses to some of the 3 images: subject-02 2 \(bear2, …\)"),
    ],
)
def test_missing_responses_are_counted(given, message, tmp_path):
    shown = shown_images("edge")
    plant_set(tmp_path, "edge", shown)
    plant_responses(tmp_path, "edge", shown, given)
    with pytest.raises(DataUnreadable, match=message):
        model_vs_human(tmp_path, stimuli="edge")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("subject-02,1,1", "resnet50,1,1", r"1 of 9 rows are not of people \('subject-…'\): edge_subject-02_session_1\.csv:2"),
        ("subject-02", "subject-01", r"3 of 9 rows repeat an image that the same person has responded to already"),
        (",airplane,0,", ",cat,0,", r"1 of 9 rows give another category or condition than the image: edge_subject-02_session_1\.csv:2"),
        ("imagename", "picture", r"has no column imagename; it takes subj, object_response, "),
        (
            "_airplane_00_airplane1.png",
            ".png",
            r"session_1\.csv: 1 of 3 rows have an imagename that is not of the release's form: line 2\.",
        ),
        (
            ",airplane,0,0039_xyz_s02_0_airplane_00_airplane1.png",
            ",airplane",
            r"subject-02_session_1\.csv: 1 of 3 rows are truncated: line 2\.",
        ),
        (",0,00", "", r"subject-02_session_1\.csv: 3 of 3 rows are truncated: line 2, 3, 4\."),
    ],
)
def test_rows_that_cannot_be_right_are_counted(old, new, message, tmp_path):
    table = plant_clone(tmp_path) / "raw-data/edge/edge_subject-02_session_1.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(DataUnreadable, match=message):
        model_vs_human(tmp_path, stimuli="edge")


def test_responses_in_another_condition_are_refused(tmp_path):
    table = plant_clone(tmp_path) / "raw-data/colour/colour_subject-01_session_1.csv"
    table.write_text(table.read_text().replace(",bw,", ",cr,"))
    with pytest.raises(DataUnreadable, match="2 of 9 rows give another category or condition"):
        model_vs_human(tmp_path, stimuli="colour")


def test_an_empty_table_and_one_about_other_images_are_refused(tmp_path):
    plant_set(tmp_path, "edge", shown_images("edge"))
    plant_responses(tmp_path, "edge", [Shown("cat", "0", "cat99")], [["cat"]])
    with pytest.raises(DataUnreadable, match=r"no row is about any of the 3 images here, such as airplane1"):
        model_vs_human(tmp_path, stimuli="edge")
    Path(tmp_path / "raw-data/edge/edge_subject-01_session_1.csv").write_text("")
    with pytest.raises(DataUnreadable, match="has no rows"):
        model_vs_human(tmp_path, stimuli="edge")


def test_names_are_read_as_the_release_writes_them():
    assert parse_session("dnn/session-1/0001_cl_dnn_bw_oven_40_n04111531_14126.png")[:3] == ("n04111531_14126", "oven", "bw")
    assert parse_session("0001_s5n_s01_0_bird_00_bird3-bird2.png")[:2] == ("bird3-bird2", "bird")
    assert parse_session("0350_sty_dnn_0_car_00_car-0149-ILSVRC2012-val-00049427.png").image == "car-0149-ILSVRC2012-val-00049427"
    assert parse_in_folder("knife/knife10-oven1.png")[3:] == ("knife", "oven")
    assert [parse_session("knife10.png"), parse_in_folder("knife10.png"), parse_in_folder("knife/10.png")] == [None, None, None]
    assert [plain_condition(text) for text in ("0.90", "00", "True", "inf", "1-10-10", "c05")] == [
        "0.9",
        "0",
        "true",
        "inf",
        "1-10-10",
        "c05",
    ]
