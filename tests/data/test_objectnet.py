import json

import numpy as np
import pytest
import torch
from layouts import LAYOUTS, SIZE, objectnet_mappings, plant
from PIL import Image

from robustvit.data.annotations.objectnet_mappings import shared_classes
from robustvit.data.objectnet import objectnet
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.evaluation import run as runner
from robustvit.primitives.batch import traits
from robustvit.results.leaderboard import leaderboard
from robustvit.results.summary import summary


@pytest.fixture
def tree(tmp_path):
    return plant(tmp_path, LAYOUTS["objectnet"]())


def test_only_the_classes_that_imagenet_has_are_opened(tree):
    data = objectnet(tree)
    assert (len(data), data.classes[:2], data.ids[1]) == (113, ("Object 0", "Object 1"), f"objectnet/object_001/{1:015x}")
    assert (traits(data).base, traits(data).scenario, traits(data).expected) == ("imagenet", "objectnet", 18_574)


def test_the_best_of_all_thousand_classes_must_be_one_of_the_objects(tree):
    score, mask = objectnet(tree).readings
    logits = torch.randn(300, 1000, generator=torch.Generator().manual_seed(0))
    object_of = {**{i: i for i in range(113)}, **{200 + i: i for i in range(12)}}
    best = logits.argmax(dim=1).tolist()
    assert score.read(logits).argmax(dim=1).tolist() == [object_of.get(one, 113) for one in best]
    among = [object_of[max(object_of, key=lambda i: float(row[i]))] for row in logits]
    assert mask.read(logits).argmax(dim=1).tolist() == among
    assert (score.classes, score.outputs, mask.classes, mask.name) == (114, 1000, 113, "mask")


def test_the_red_border_is_cut_off(tree):
    image = tree / f"images/object_000/{0:015x}.png"
    framed = Image.new("RGB", SIZE, (255, 0, 0))
    framed.paste((0, 0, 255), (2, 2, SIZE[0] - 2, SIZE[1] - 2))
    framed.save(image)
    image = objectnet(tree)[0].image
    assert image.shape == (SIZE[1] - 4, SIZE[0] - 4, 3)
    assert np.array_equal(image.reshape(-1, 3).max(axis=0), [0, 0, 255])
    kept = objectnet(tree, border="keep")
    assert kept[0].image.shape[:2] == SIZE[::-1]
    assert kept.fingerprint != objectnet(tree).fingerprint
    assert traits(kept).params == (("border", "keep"),)


def test_an_image_that_is_all_border_is_refused(tree):
    Image.new("RGB", (9, 4)).save(tree / f"images/object_000/{0:015x}.png")
    with pytest.raises(DataUnreadable, match=r"object_000/0+\.png: 4x9 pixels leave nothing"):
        objectnet(tree)[0]


def test_folders_of_no_object_are_refused(tree):
    (tree / "images/cat").mkdir()
    with pytest.raises(DataUnreadable, match=r"1 of 314 folders .*: cat"):
        objectnet(tree)


def test_a_tree_without_images_or_mappings_is_missing(tree):
    (tree / "mappings/imagenet_to_label_2012_v2").unlink()
    with pytest.raises(DataMissing, match=r"1 of the 4 mapping files are not in .*: imagenet_to_label_2012_v2"):
        objectnet(tree)
    with pytest.raises(DataMissing, match="holds images/"):
        objectnet(tree / "mappings")


def broken(name, change):
    """The mapping files, one of them changed."""
    files = objectnet_mappings()
    entries = json.loads(files[name])
    change(entries)
    return {**files, name: json.dumps(entries)}


FOLDERS, SHARED, LINES = "folder_to_objectnet_label.json", "objectnet_to_imagenet_1k.json", "pytorch_to_imagenet_2012_id.json"


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (FOLDERS, lambda entries: entries.pop("object_004"), "1 labels that no folder has: Object 4"),
        (FOLDERS, lambda entries: entries.update(object_004="Object 5"), "1 labels of two folders: Object 5"),
        (FOLDERS, lambda entries: entries.update(object_004=4), "1 entries that are not text: object_004"),
        (SHARED, lambda entries: entries.pop("Object 7"), "maps 112 classes to ImageNet's; there are 113"),
        (SHARED, lambda entries: entries.update({"Object 7": "thing 7"}), "1 names that are not one line of .*: thing 7"),
        (SHARED, lambda entries: entries.update({"Object 7": "thing 8, thing"}), "1 names of two objects: thing 8, thing"),
        (LINES, lambda entries: [entries.pop("3"), entries.pop("9")], "2 of 1000 classes without a line: 3, 9"),
        (LINES, lambda entries: entries.update({"3": 1000}), "1 classes whose line is none of the 1000 .*: 3"),
        (LINES, lambda entries: entries.update({"3": 5}), "1 lines of two classes: 5"),
    ],
)  # fmt: skip
def test_holes_in_the_mappings_are_counted_and_named(tmp_path, name, change, reason):
    for path, text in broken(name, change).items():
        (tmp_path / path).write_text(text)
    with pytest.raises(DataUnreadable, match=reason):
        shared_classes(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{"])
def test_a_mapping_that_is_no_mapping_is_refused(tmp_path, text):
    for path, entries in {**objectnet_mappings(), SHARED: text}.items():
        (tmp_path / path).write_text(entries)
    with pytest.raises(DataUnreadable, match=f"{SHARED} (holds a list|is no JSON)"):
        shared_classes(tmp_path)


def test_the_further_shifts_are_shown_beside_the_clean_images(tmp_path):
    for name, layout in (
        ("imagenet", "imagenet, sorted"), ("objectnet", "objectnet"), ("imagenet-hr", "imagenet-hr, as on the hub"),
        ("imagenet-stylized", "imagenet-stylized"),
    ):  # fmt: skip
        plant(tmp_path / name, LAYOUTS[layout]())
    model = "vit_tiny_patch16_224?weights=random&crop_pct=1&kwargs=img_size=32,patch_size=16,depth=1,embed_dim=24,num_heads=2"
    runner.run("imagenet-shift-extra", [model], store=tmp_path / "s", data_dir=tmp_path, limit=3)
    board = leaderboard(tmp_path / "s")
    assert set(board["status"]) == {"complete"}
    assert board.loc[board["metric"] == "top1_mask", "scenario"].tolist() == ["objectnet"]
    shown = {"clean top-1", "objectnet top-1", "imagenet-hr top-1", "imagenet-stylized top-1"}
    assert shown <= set(summary(board).columns)
