import pytest
from layouts import LAYOUTS, plant, real_json

from robustvit.data.imagenet import imagenet
from robustvit.errors import BadParameter, DataMissing, DataUnreadable
from robustvit.primitives.batch import traits


@pytest.fixture
def tree(tmp_path):
    return plant(tmp_path, LAYOUTS["imagenet with reassessed labels"]())


def test_every_image_has_the_labels_of_its_number(tree):
    data = imagenet(tree, labels="real")
    real = dict(zip(data.ids, traits(data).facts["fact_real"], strict=True))
    assert [real[f"imagenet/val/ILSVRC2012_val_{i:08}"] for i in (1, 2, 3, 4, 5)] == [[207, 208], [], [998], [207], [30]]
    assert (traits(data).scenario, traits(data).params) == ("", (("labels", "real"),))


def test_samples_and_their_own_labels_stay_and_the_fingerprint_changes(tree):
    plain, real = imagenet(tree), imagenet(tree, labels="real")
    assert (plain.ids, plain.labels.tolist()) == (real.ids, real.labels.tolist())
    assert plain.fingerprint != real.fingerprint


def test_other_reassessed_labels_are_other_data(tree):
    before = imagenet(tree, labels="real").fingerprint
    (tree / "real.json").write_text(real_json([[207], [], [998], [207], [30]]))
    assert imagenet(tree, labels="real").fingerprint != before


def test_the_labels_lie_up_to_four_folders_above(tmp_path):
    deep = plant(tmp_path / "a/b/c", LAYOUTS["imagenet, sorted"]())
    (tmp_path / "real.json").write_text(real_json([]))
    assert len(imagenet(deep, labels="real")) == 5
    (tmp_path / "real.json").unlink()
    with pytest.raises(DataMissing, match=r"needs real\.json beside the images .*reassessed-imagenet"):
        imagenet(deep, labels="real")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[1], [2]]", "holds 2 entries; it must be a list of 50,000 lists"),
        ("{}", "holds a dict"),
        ("[[1], ", "cannot be read as JSON"),
        (real_json([[207], 5, [1000], [True], [-1]]), r"4 of its 50,000 entries .* ILSVRC2012_val_00000002, 5\."),
    ],
)
def test_holes_are_counted_and_the_first_is_named(tree, text, reason):
    (tree / "real.json").write_text(text)
    with pytest.raises(DataUnreadable, match=reason):
        imagenet(tree, labels="real")


def test_images_without_a_number_are_counted(tree):
    image = next((tree / "val").rglob("*_00000003.JPEG"))
    image.rename(image.with_name("ILSVRC2012_val_00050001.JPEG"))
    with pytest.raises(DataUnreadable, match=r"1 images in .* are none of these: ILSVRC2012_val_00050001"):
        imagenet(tree, labels="real")


@pytest.mark.parametrize("other", [{"split": "train"}, {"classes": "imagenet-a"}])
def test_they_are_those_of_the_whole_validation_set(tree, other):
    with pytest.raises(BadParameter, match="leave split and classes out"):
        imagenet(tree, labels="real", **other)
