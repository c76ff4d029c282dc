import numpy as np
import pytest
from PIL import Image

from robustvit.data.annotations.box_annotations import Boxes
from robustvit.data.annotations.wnids import wnids
from robustvit.data.boxes import MEAN, center_crop, imagenet_boxes
from robustvit.data.imagenet import imagenet
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.primitives.batch import Data, traits

NAMES = tuple(f"{wnids()[label]}/ILSVRC2012_val_{label:08}" for label in (1, 207, 999))
SMALL = (40, 30, 72, 54)  # on 100 by 80


def xml(path, name, boxes, size=(100, 80)):
    """An annotation as the archive has them; boxes: (wnid or None for the image's own, corners)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = "".join(
        f"<object><name>{wnid or name.partition('/')[0]}</name><pose>Unspecified</pose><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for wnid, (a, b, c, d) in boxes
    )
    path.write_text(
        f"<annotation><folder>val</folder><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"
    )


@pytest.fixture
def disk(tmp_path):
    """Three images of 100 by 80 px in folders of their class, and their annotations in Kaggle's place."""
    for seed, name in enumerate(NAMES):
        path = tmp_path / "ILSVRC/Data/CLS-LOC/val" / f"{name}.JPEG"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (80, 100, 3), np.uint8)).save(path)
        xml(place(tmp_path, name), name, [(None, SMALL)])
    return tmp_path


def place(root, name):
    return root / "ILSVRC/Annotations/CLS-LOC/val" / f"{name.partition('/')[2]}.xml"


def test_the_object_and_its_surroundings_make_up_the_image(disk):
    whole, front, back = (imagenet_boxes(disk, keep=keep) for keep in ("full", "foreground", "background"))
    assert isinstance(whole, Data)
    assert whole.ids == front.ids == back.ids == imagenet(disk).ids
    for i in range(3):
        image = imagenet(disk)[i].image
        assert np.array_equal(whole[i].image, image)
        expected = np.broadcast_to(np.array(MEAN, np.uint8), image.shape).copy()
        expected[30:54, 40:72] = image[30:54, 40:72]
        assert np.array_equal(front[i].image, expected)
        assert np.array_equal(np.where(expected == image, back[i].image, image)[:30], image[:30])
        assert (back[i].image[30:54, 40:72] == MEAN).all()


def test_fills(disk):
    zero, blur, noise = (imagenet_boxes(disk, keep="foreground", fill=fill)[0].image for fill in ("zero", "blur", "noise"))
    outside = np.ones((80, 100), bool)
    outside[30:54, 40:72] = False
    assert not zero[outside].any()
    assert 0 < blur[outside].std() < imagenet(disk)[0].image[outside].std() / 3
    assert abs(noise[outside].mean() - 127.5) < 2
    assert len(np.unique(noise[outside])) == 256


def test_noise_is_the_images_own(disk):
    first, again, other = (imagenet_boxes(disk, keep="background", fill="noise", seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first[1].image, again[1].image)
    assert not np.array_equal(first[1].image[30:54, 40:72], other[1].image[30:54, 40:72])
    assert not np.array_equal(first[1].image[30:54, 40:72], first[2].image[30:54, 40:72])


def test_the_share_that_boxes_cover_together_of_the_middle_is_exact():
    boxes = Boxes(256, 256, ((16, 16, 128, 240), (100, 0, 128, 256), (0, 0, 16, 256)))
    assert center_crop(boxes).covered == pytest.approx(112 * 224 / 224**2)
    assert center_crop(boxes).inside == pytest.approx(112 * 224 / (112 * 224 + 28 * 32 + 16 * 256))


def test_the_area_of_many_boxes_is_that_of_their_pixels():
    rng = np.random.default_rng(0)
    for _ in range(50):
        low = rng.integers(0, 200, (5, 2))
        high = low + rng.integers(1, 56, (5, 2))
        inside = np.zeros((256, 256), bool)
        for (left, top), (right, bottom) in zip(low, high, strict=True):
            inside[top:bottom, left:right] = True
        found = center_crop(Boxes(256, 256, tuple((*a, *b) for a, b in zip(low.tolist(), high.tolist(), strict=True))))
        assert found.covered == pytest.approx(inside[16:240, 16:240].sum() / 224**2)
        assert found.inside == pytest.approx(inside[16:240, 16:240].sum() / inside.sum())


def test_images_that_boxes_fill_or_that_the_view_cuts_off_are_left_out_of_all_three(disk):
    xml(place(disk, NAMES[0]), NAMES[0], [(None, (0, 0, 100, 80))])
    xml(place(disk, NAMES[1]), NAMES[1], [(None, (0, 0, 15, 80))])  # the middle begins at column 15
    for keep in ("full", "foreground", "background"):
        assert imagenet_boxes(disk, keep=keep).ids == imagenet(disk).ids[2:]
    assert len(imagenet_boxes(disk, coverage=1.0)) == 2
    assert traits(imagenet_boxes(disk)).facts == {"fact_coverage": [round(1000 * 32 * 24 / 70**2)]}


def test_boxes_of_other_classes_do_not_count(disk):
    xml(place(disk, NAMES[0]), NAMES[0], [(wnids()[5], (0, 0, 100, 80)), (None, SMALL)])
    assert np.array_equal(imagenet_boxes(disk, keep="foreground")[0].image[30:54, 40:72], imagenet(disk)[0].image[30:54, 40:72])
    assert (imagenet_boxes(disk, keep="foreground")[0].image[:30] == MEAN).all()


@pytest.mark.parametrize("head", [["ImageId,PredictionString"], ["\ufeffImageId,PredictionString"], []], ids=["header", "BOM", "none"])
def test_kaggles_table_says_the_same_as_the_annotations(disk, head):
    before = imagenet_boxes(disk, keep="background")
    for name in NAMES:
        place(disk, name).unlink()
    rows = [f"{name.partition('/')[2]},{wnids()[5]} 0 0 9 9 {name[:9]} {' '.join(map(str, SMALL))} " for name in NAMES]
    (disk / "LOC_val_solution.csv").write_text("\n".join([*head, *rows]), encoding="utf-8")
    after = imagenet_boxes(disk, keep="background")
    assert (after.fingerprint, after.ids) == (before.fingerprint, before.ids)


def test_a_fingerprint_knows_boxes_and_paint(disk):
    marks = {imagenet_boxes(disk, keep=keep, fill=fill).fingerprint for keep in ("foreground", "background") for fill in ("mean", "noise")}
    assert len(marks) == 4
    xml(place(disk, NAMES[0]), NAMES[0], [(None, (40, 30, 72, 55))])
    assert imagenet_boxes(disk, keep="foreground").fingerprint not in marks


def test_what_is_wrong_is_counted_by_kind(disk):
    place(disk, NAMES[0]).unlink()
    place(disk, NAMES[1]).write_text("<annotation><size>")
    xml(place(disk, NAMES[2]), NAMES[2], [(wnids()[5], SMALL)])
    with pytest.raises(DataUnreadable) as caught:
        imagenet_boxes(disk)
    for problem in (
        "of 3 images", "1 without an annotation: imagenet/val/ILSVRC2012_val_00000001", "1 with annotations that cannot be read",
        "ILSVRC2012_val_00000207.xml: no element found", "1 without a box of their class: imagenet/val/ILSVRC2012_val_00000999",
    ):  # fmt: skip
        assert problem in str(caught.value)


@pytest.mark.parametrize("corners", [(-2, 0, 40, 40), (0, 0, 102, 40), (50, 40, 50, 60), (60, 40, 50, 60), (100, 0, 101, 40)])
def test_boxes_outside_the_image_are_refused(disk, corners):
    xml(place(disk, NAMES[0]), NAMES[0], [(None, corners)])
    with pytest.raises(DataUnreadable, match=r"1 with boxes outside the image: .*00000001: .* on 100x80"):
        imagenet_boxes(disk)


@pytest.mark.parametrize("word", ["nan", "inf", "ten"])
def test_numbers_that_are_none_are_refused(disk, word):
    xml(place(disk, NAMES[0]), NAMES[0], [(None, (word, 0, 10, 10))])
    with pytest.raises(DataUnreadable, match="1 with annotations that cannot be read"):
        imagenet_boxes(disk)


def test_a_pixel_over_the_edge_is_cut_off(disk):
    xml(place(disk, NAMES[0]), NAMES[0], [(None, (60, 40, 101, 81))])
    assert (imagenet_boxes(disk, keep="background")[0].image[40:, 60:] == MEAN).all()


def test_a_image_of_another_size_than_its_boxes_is_refused(disk):
    xml(place(disk, NAMES[0]), NAMES[0], [(None, SMALL)], size=(200, 160))
    with pytest.raises(DataUnreadable, match="80x100 pixels; its boxes were drawn on 160x200"):
        imagenet_boxes(disk, coverage=1.0)[0]


def test_nothing_to_read_boxes_from_is_named(disk):
    (disk / "ILSVRC/Annotations").rename(disk / "elsewhere")
    with pytest.raises(DataMissing, match=r"no boxes were found for the images in"):
        imagenet_boxes(disk)


def test_no_image_left_is_an_error(disk):
    with pytest.raises(DataMissing, match=r"none of 3 images has boxes that cover at most 0\.01"):
        imagenet_boxes(disk, coverage=0.01)
