import json
import sys

import pytest

from robustvit.data.annotations.imagenet_x import FACTORS
from robustvit.data.annotations.wnids import wnids
from robustvit.data.imagenet import imagenet
from robustvit.errors import BadParameter, DataMissing, DataUnreadable
from robustvit.primitives.batch import traits

NAMES = [f"ILSVRC2012_val_{number:08d}" for number in (1, 2, 3, 4)]
PATHS = [f"val/{wnids()[label]}/{name}.JPEG" for label, name in enumerate(NAMES)]


def row(number, **factors):
    return {"file_name": f"{NAMES[number]}.JPEG", "class": number, **dict.fromkeys(FACTORS, 0), **factors, "justification": "seen"}


def write(folder, rows, which="top", prototypes=("ILSVRC2012_val_00000003.JPEG",)):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"imagenet_x_val_{which}_factor.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (folder / "prototypical_paths.csv").write_text("\n".join(["file_name", *prototypes]))


@pytest.fixture
def root(plant, tmp_path):
    """Four images: two with a factor, a prototype, and one that nobody annotated."""
    plant(tmp_path / "data", *PATHS)
    write(tmp_path / "data", [row(0, pose=1), row(1, darker=1), row(2, pose=1)])
    return tmp_path / "data"


def column(data, name):
    return dict(zip((one.rpartition("/")[2] for one in data.ids), traits(data).facts[name].tolist(), strict=True))


def test_factors_are_facts_of_the_images_that_are_annotated_and_no_prototypes(root):
    data = imagenet(root, factors="top")
    assert column(data, "fact_pose") == dict(zip(NAMES, [1, 0, -1, -1], strict=True))
    assert column(data, "fact_darker") == dict(zip(NAMES, [0, 1, -1, -1], strict=True))
    assert set(traits(data).facts) == {f"fact_{factor}" for factor in FACTORS}
    assert traits(data).params == (("factors", "top"),)


def test_ids_stay_those_of_imagenet_and_the_fingerprint_knows_the_factors(root):
    plain, top = imagenet(root), imagenet(root, factors="top")
    write(root, [row(0, pose=1, darker=1), row(1, darker=1), row(2, pose=1)], which="multi")
    multi = imagenet(root, factors="multi")
    assert plain.ids == top.ids == multi.ids
    assert len({plain.fingerprint, top.fingerprint, multi.fingerprint}) == 3
    assert column(multi, "fact_darker")[NAMES[0]] == 1
    assert not traits(plain).facts


def test_an_installed_package_is_read_and_not_imported(root, tmp_path, monkeypatch):
    before = imagenet(root, factors="top").fingerprint
    package = tmp_path / "site" / "imagenet_x"
    write(package / "annotations", [row(0, pose=1), row(1, darker=1), row(2, pose=1)])
    (package / "__init__.py").write_text("raise SystemError('imported')")
    (root / "imagenet_x_val_top_factor.jsonl").unlink()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert imagenet(root, factors="top").fingerprint == before
    assert "imagenet_x" not in sys.modules


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(0, pose=2)], "sixteen factors as 0 or 1; the first is row 1"),
        ([row(0, pose=1), {**row(1), "class": "1"}], "the first is row 2"),
        ([{key: value for key, value in row(0).items() if key != "style"}], "the first is row 1"),
        ([row(0), row(0)], "an image occurs twice"),
        ([row(0), {**row(1), "class": 7}], "gives 1 images another class than their label: ILSVRC2012_val_00000002"),
    ],
)
def test_annotations_that_are_not_whole_or_of_other_labels_are_refused(root, rows, reason):
    write(root, rows)
    with pytest.raises(DataUnreadable, match=reason):
        imagenet(root, factors="top")


def test_without_annotations_the_place_to_get_them_is_named(root):
    with pytest.raises(DataMissing, match=r"imagenet_x_val_multi_factor\.jsonl .* pip install imagenet-x"):
        imagenet(root, factors="multi")
    (root / "prototypical_paths.csv").unlink()
    with pytest.raises(DataMissing, match="typical of their class"):
        imagenet(root, factors="top")


def test_factors_are_of_all_validation_images(root):
    with pytest.raises(BadParameter, match="leave split and classes out"):
        imagenet(root, factors="top", classes="imagenet-a")
