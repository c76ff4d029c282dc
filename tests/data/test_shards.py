import io
import json
import tarfile

import pytest

from robustvit.data.formats.decode import decode
from robustvit.data.shards import wds
from robustvit.errors import BadParameter, DataMissing, DataUnreadable
from robustvit.evaluation.loading import load_data
from robustvit.primitives.batch import Data, traits


@pytest.fixture
def pack(tmp_path):
    """Writes a tar of members, given as name and bytes; returns its path."""

    def write(name, members):
        with tarfile.open(tmp_path / name, "w") as tar:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return tmp_path / name

    return write


@pytest.fixture
def shards(pack, encoded, tmp_path):
    """Two shards of three samples: a webdataset as its writer leaves it."""
    for shard in range(2):
        members = {}
        for i in range(3):
            members[f"{i:04d}.png"] = encoded(10 * shard + i)
            members[f"{i:04d}.cls"] = str(i).encode()
            members[f"{i:04d}.json"] = json.dumps({"fine": 2 - i}).encode()
        pack(f"val-{shard:03d}.tar", members)
    return tmp_path


def test_shards_are_read_without_unpacking(shards, encoded):
    data = wds(shards)
    assert isinstance(data, Data)
    assert data.ids[2:4] == ("wds/val-000/0002", "wds/val-001/0000")
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert (data[4].image == decode(encoded(11), "x")).all()


@pytest.mark.parametrize(("pattern", "count"), [("val-{000..001}.tar", 6), ("val-*1.tar", 3), ("val-000.tar", 3)])
def test_a_pattern_or_one_file_names_the_shards(shards, pattern, count):
    assert len(wds(shards / pattern)) == count


def test_a_field_of_the_json_beside_it_can_be_the_label(shards):
    assert wds(shards, label="fine").labels.tolist() == [2, 1, 0, 2, 1, 0]


def test_byte_order_marks_before_labels_are_read_over(pack, encoded):
    tar = pack("a.tar", {"1.png": encoded(1), "1.cls": b"\xef\xbb\xbf1", "1.json": b'\xef\xbb\xbf{"fine": 2}'})
    assert (wds(tar).labels.tolist(), wds(tar, label="fine").labels.tolist()) == ([1], [2])


def test_the_number_of_classes_can_be_given(shards):
    assert len(wds(shards, classes=1000).classes) == len(load_data(f"wds/{shards}?classes=1000").classes) == 1000
    with pytest.raises(DataUnreadable, match=r"largest class index is 2; classes = 2 allows 0 … 1"):
        wds(shards, classes=2)


def test_folders_in_a_tar_or_tars_by_class_are_labels_where_there_are_no_others(pack, encoded, tmp_path):
    pack("mixed.tar", {"ape/1.png": encoded(1), "cat/2.png": encoded(2), "notes.txt": b"left out"})
    pack("bee.tar", {"3.png": encoded(3)})
    data = wds(tmp_path)
    assert data.classes == ("ape", "bee", "cat")
    assert dict(zip(data.ids, data.labels.tolist(), strict=True)) == {"wds/bee/3": 1, "wds/mixed/ape/1": 0, "wds/mixed/cat/2": 2}


def test_class_folders_in_a_tar_are_numbered_as_folders_are(pack, encoded, tmp_path):
    tar = pack("a.tar", {f"c{i}/1.png": encoded(i) for i in (1, 2, 10)})
    (tmp_path / "map.txt").write_text("c10 2\nc1 1\nc2 0\n")
    assert "label 1" in traits(wds(tar)).ambiguous_order
    found = [wds(tar), wds(tar, order="natural"), wds(tar, classes="map.txt")]
    assert [data.classes for data in found] == [("c1", "c10", "c2"), ("c1", "c2", "c10"), ("c2", "c1", "c10")]
    assert [dict(zip(data.ids, data.labels.tolist(), strict=True))["wds/a/c10/1"] for data in found] == [1, 2, 2]
    assert [traits(data).ambiguous_order for data in found[1:]] == ["", ""]


def test_tars_by_class_are_numbered_as_folders_are(pack, encoded, tmp_path):
    for i in (1, 2, 10):
        pack(f"c{i}.tar", {"1.png": encoded(i)})
    assert "label 1" in traits(wds(tmp_path)).ambiguous_order
    assert wds(tmp_path, order="natural").classes == ("c1", "c2", "c10")


@pytest.mark.parametrize("given", [{"order": "natural"}, {"classes": "map.txt"}, {"classes": 0}])
def test_samples_with_class_indices_take_no_order_of_names(shards, given):
    with pytest.raises(BadParameter, match=r"data 'wds': (order|classes)"):
        wds(shards, **given)


def test_class_folders_keep_every_image_whatever_dots_are_in_its_name(pack, encoded):
    data = wds(pack("a.tar", {f"./cat/cat.{i}.png": encoded(i) for i in range(3)} | {"ape/x.jpg": encoded(9), "ape/y": b""}))
    assert data.ids == ("wds/a/cat/cat.0", "wds/a/cat/cat.1", "wds/a/cat/cat.2", "wds/a/ape/x")
    assert data.labels.tolist() == [1, 1, 1, 0]
    assert (data[2].image == decode(encoded(2), "x")).all()


@pytest.mark.parametrize(
    "members",
    [
        ["1.png", "1.jpg", "1.cls"], ["cat.0.png", "cat.1.png", "cat.0.cls"], ["1.png", "1.seg.png", "1.cls"], ["1.png", "1.png", "1.cls"],
        ["1.png", "1.cls", "1.cls"], ["a/1.png", "a/1.jpg"], ["a/1.png", "a/1.png"], ["a/1.png", "./a/1.png"],
    ],
)  # fmt: skip
def test_a_key_of_several_members_is_refused_by_name(tmp_path, encoded, members):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in members:
            info = tarfile.TarInfo(name)
            content = encoded(len(name)) if name.endswith(("g",)) else b"1"
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(DataUnreadable, match=r"a\.tar: 1 of \d keys belong to several members: .* = .*Rename the members, or"):
        wds(tmp_path)


def test_the_image_of_a_key_with_several_can_be_chosen(pack, encoded):
    tar = pack(
        "a.tar", {"1.png": encoded(1), "1.seg.png": encoded(2), "1.cls": b"0", "2.png": encoded(3), "2.seg.png": encoded(4), "2.cls": b"1"}
    )
    for image, seeds in (("png", (1, 3)), ("seg.png", (2, 4))):
        data = wds(tar, image=image)
        assert data.labels.tolist() == [0, 1]
        assert all((data[i].image == decode(encoded(seed), "x")).all() for i, seed in enumerate(seeds))


def test_what_a_tar_holds_and_is_not_read_is_counted(pack, encoded, tmp_path):
    others = ("README.md", "ape/2.avif", "bee/3.avif", "bee/.4.png", "bee/._5.png")
    folders = pack("a.tar", {"ape/1.png": encoded(1), **dict.fromkeys(others, b"")})
    with tarfile.open(folders, "a") as tar:
        for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
            info = tarfile.TarInfo("bee/6.png")
            info.type, info.linkname = kind, "ape/1.png"
            tar.addfile(info)
    assert str(wds(folders).ignored) == "2 links, 2 files with other endings (.avif), 1 hidden image or folder"
    samples = {"1.png": encoded(1), "1.cls": b"0", "1.txt": b"a caption", "2.avif": b"", "2.cls": b"1", "3.cls": b"1", "README": b""}
    assert str(wds(pack("b.tar", samples)).ignored) == "3 files with other endings (.avif, .cls, no ending)"
    assert str(wds(pack("c.tar", {"1.png": encoded(1), "1.txt": b""})).ignored) == "1 file with another ending (.txt)"


def test_samples_without_a_class_index_among_others_are_named(pack, encoded):
    tar = pack("a.tar", {"1.png": encoded(1), "1.cls": b"0", "2.png": encoded(2), "3.png": encoded(3), "3.cls": b"three"})
    with pytest.raises(DataUnreadable, match="2 of 3 samples have no class index under 'cls': 2, 3"):
        wds(tar)


def test_a_json_without_the_field_is_named(shards):
    with pytest.raises(DataUnreadable, match=r"val-000\.tar: 0000: its \.json must hold a class index under 'coarse'"):
        wds(shards, label="coarse")


def test_a_shard_cut_short_is_named(shards):
    whole = (shards / "val-001.tar").read_bytes()
    (shards / "val-001.tar").write_bytes(whole[:3000])
    with pytest.raises(DataUnreadable, match=r"val-001\.tar is no whole, uncompressed tar"):
        wds(shards)


def test_shards_that_are_not_there_are_named(shards, tmp_path):
    with pytest.raises(DataMissing, match=r"1 of 3 shards do not exist: .*val-002\.tar"):
        wds(shards / "val-{000..002}.tar")
    for place, reason in ((None, "--data-dir"), (tmp_path / "gone", "nothing at"), (tmp_path / "no-*.tar", "holds no .tar")):
        with pytest.raises(DataMissing, match=reason):
            wds(place)


def test_moving_the_shards_changes_nothing_and_a_label_does(shards, pack, encoded):
    before = wds(shards)
    moved = wds((shards / "val-000.tar").rename(shards / "kept.tar").rename(shards / "val-000.tar").parent)
    assert (before.ids, before.fingerprint) == (moved.ids, moved.fingerprint)
    pack("val-001.tar", {f"{i:04d}.{end}": encoded(10 + i) if end == "png" else b"0" for i in range(3) for end in ("png", "cls")})
    assert wds(shards).fingerprint != before.fingerprint
