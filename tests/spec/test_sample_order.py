import hashlib

import numpy as np
import pytest

from robustvit.spec.sample_order import Frames, clip, order, starts

CLIPS = [f"imagenet/val/{name}" for name in ("cat", "dog", "fish", "hen")]


def test_the_frames_of_a_clip_follow_each_other_in_time() -> None:
    ids = Frames(CLIPS, 12)
    ranked = [ids[i] for i in order(ids)]
    assert [clip(name)[1] for name in ranked] == list(range(12)) * 4
    assert {clip(name)[0] for name in ranked[:12]} == {CLIPS[order(CLIPS)[0]]}


def test_frames_are_ordered_as_their_names_would_be() -> None:
    ids = Frames(CLIPS, 12)
    assert order(ids).tolist() == order(list(ids)).tolist()
    assert starts(ids, order(ids)).tolist() == starts(list(ids), order(ids)).tolist() == [0, 12, 24, 36, 48]


def test_a_number_after_a_mark_is_a_frame_and_nothing_else_is() -> None:
    assert clip("a/cat#12") == ("a/cat", 12)
    assert clip("a/cat#12.png") == ("a/cat#12.png", 0)
    assert clip("a/cat#") == ("a/cat#", 0)


def test_images_are_clips_of_their_own() -> None:
    assert starts(CLIPS, np.arange(4)).tolist() == [0, 1, 2, 3, 4]


def test_frames_are_a_sequence() -> None:
    ids = Frames(["a", "b"], 3)
    assert (len(ids), ids[4], ids[-1], ids[1:3]) == (6, "b#1", "b#2", ("a#1", "a#2"))
    with pytest.raises(IndexError):
        ids[6]


def test_the_order_is_that_of_the_hashes_of_the_ids() -> None:
    ids = [f"n{i:03d}" for i in range(40)]
    hashed = sorted(range(40), key=lambda i: hashlib.blake2b(ids[i].encode(), digest_size=8).digest())
    assert order(ids).tolist() == hashed
    assert hashed != list(range(40))
