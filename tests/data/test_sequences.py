"""Clips: generated from images, and read from videos."""

import numpy as np
import pytest

from robustvit.data.annotations.wnids import wnids
from robustvit.data.formats.clips import Perturbation
from robustvit.errors import BadParameter, DataMissing, DataUnreadable
from robustvit.evaluation.loading import load_data
from robustvit.primitives.batch import Data, traits
from robustvit.spec.spec import parse

cv2 = pytest.importorskip("cv2")


def made(corruption, data=None, **about):
    (spec,) = parse({"sequences": {"data": "digits", "corruption": corruption, "size": 32, **about}})
    return load_data(spec, inner=data)


def test_a_clip_of_noise_begins_with_the_clean_image_and_is_compared_with_it():
    clips = made("gaussian_noise_frame")
    assert (len(clips), clips[32].id, clips.ids[32]) == (500 * 31, clips.ids[32], f"{clips.read.images.ids[1]}#1")
    assert np.abs(clips[31].image.astype(int) - clips[32].image.astype(int)).mean() > 2
    assert traits(clips).facts["against"][:4].tolist() == [-1, 0, 0, 0]


def test_clips_of_images_whose_classes_are_ambiguous_are_so_too(plant, tmp_path):
    plant(tmp_path, "1/a.png", "2/b.png", "10/c.png")
    for order in ("", "?order=natural"):
        images = load_data(f"folder:{tmp_path}{order}")
        assert traits(made("gaussian_noise_frame", images)).ambiguous_order == traits(images).ambiguous_order
    assert traits(load_data(f"folder:{tmp_path}")).ambiguous_order


@pytest.mark.parametrize(("difficulty", "expected"), [(1, [-1, 0, 1, 2, 3]), (2, [-1, -1, 0, 1, 2]), (3, [-1, -1, -1, 0, 1])])
def test_anything_else_is_compared_with_an_earlier_frame(difficulty, expected):
    assert Perturbation("rotate", difficulty).against(2)[:5].tolist() == expected
    assert Perturbation("rotate", difficulty).against(2)[31:36].tolist() == expected


def test_translation_takes_forty_one_frames_and_the_middle_one_is_the_still():
    clips = made("translate_frame", cut="last")
    still = made("gaussian_noise_frame")
    assert clips.read.perturbation.frames == 41
    assert np.array_equal(clips[20].image, still[0].image)


def test_frames_are_the_same_whatever_was_read_before():
    clips, again = made("snow_frame"), made("snow_frame")
    assert np.array_equal([clips[i].image for i in (3, 40, 5)][2], again[5].image)


def test_the_same_clip_has_other_noise_at_another_seed():
    assert not np.array_equal(made("shot_noise_frame")[1].image, made("shot_noise_frame", seed=1)[1].image)


def test_what_changes_a_frame_changes_the_fingerprint():
    kinds = [
        made("rotate_frame"),
        made("rotate_frame", cut="last"),
        made("rotate_frame", difficulty=2),
        made("tilt_frame"),
        made("rotate_frame", seed=3),
    ]
    assert len({one.fingerprint for one in kinds}) == len(kinds)


def test_it_is_data_like_any_other():
    clips = made("rotate_frame")
    assert isinstance(clips, Data)
    assert (clips.name, clips.source, traits(clips).base, traits(clips).cut) == ("digits-p", "generated", "digits", 32)


def test_a_corruption_that_makes_no_frames_is_refused():
    with pytest.raises(BadParameter, match=r"'fog' makes no frames; those that do are .*rotate_frame"):
        made({"fog": {"severity": 1}})


DOG = wnids()[207]


def film(path, frames=31, side=224, seed=0):
    """A video of grey frames, each brighter than the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (side, side))
    for t in range(frames):
        writer.write(np.full((side, side, 3), (10, 20 + 3 * t, 40 + 5 * t + seed), np.uint8))
    writer.release()


def released(root, **about):
    return load_data("imagenet-p", data_dir=root, **about)


def test_released_videos_are_read_as_rgb_frames_in_time(tmp_path):
    film(tmp_path / "rotate" / DOG / "ILSVRC2012_val_00000001.mp4")
    clips = released(tmp_path, perturbation="rotate")
    assert (len(clips), clips[30].id, clips[30].label) == (31, "imagenet/val/ILSVRC2012_val_00000001#30", 207)
    red, green, blue = clips[30].image.reshape(-1, 3).mean(axis=0)
    assert (red > green > blue, abs(red - 190) < 8, abs(blue - 10) < 8) == (True, True, True)
    assert clips[0].image.mean() < clips[15].image.mean() < clips[30].image.mean()


def test_stronger_noise_lies_in_a_folder_of_its_own(tmp_path):
    film(tmp_path / "noise" / "gaussian_noise_2" / DOG / "a.mp4")
    assert len(released(tmp_path, difficulty=2)) == 31
    with pytest.raises(DataMissing, match="holds 'gaussian_noise'"):
        released(tmp_path)


def test_a_video_that_is_cut_short_is_named(tmp_path):
    film(tmp_path / "rotate" / DOG / "a.mp4", frames=7)
    with pytest.raises(DataUnreadable, match=r"imagenet/val/a: .*a\.mp4 has 7 readable frames; rotate has 31"):
        released(tmp_path, perturbation="rotate")[0]


def test_frames_of_another_size_are_refused(tmp_path):
    film(tmp_path / "rotate" / DOG / "a.mp4", side=64)
    with pytest.raises(DataUnreadable, match="64x64 pixels"):
        released(tmp_path, perturbation="rotate")[0]


def test_a_folder_without_videos_is_an_error(tmp_path):
    (tmp_path / "rotate" / DOG).mkdir(parents=True)
    with pytest.raises(DataMissing, match="holds no videos"):
        released(tmp_path, perturbation="rotate")
