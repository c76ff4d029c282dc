import io
import tarfile

import pytest

from robustvit.data.clip_benchmark import clip_benchmark
from robustvit.data.formats.decode import decode
from robustvit.errors import BadParameter, DataMissing, DataUnreadable
from robustvit.primitives.batch import Data


def tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


@pytest.fixture
def root(tmp_path, encoded):
    """Eleven shards of one sample, so that 10.tar sorts before 2.tar as text; classes are not in the order of the alphabet."""
    place = tmp_path / "wds_zoo"
    for shard in range(11):
        tar(place / f"test/{shard}.tar", {f"s{shard:07d}.cls": str(shard % 3).encode(), f"s{shard:07d}.webp": encoded(shard, "WEBP")})
    (place / "test/nshards.txt").write_text("11\n")
    (place / "classnames.txt").write_text("zebra\nblack bear\nape\n")
    (place / "zeroshot_classification_templates.txt").write_text("a photo of a {c}\n")
    return place


def test_classes_are_the_lines_of_the_names_in_their_order(root, encoded):
    data = clip_benchmark(root)
    assert isinstance(data, Data)
    assert (data.name, data.classes) == ("clip-benchmark", ("zebra", "black bear", "ape"))
    found = dict(zip(data.ids, data.labels.tolist(), strict=True))
    assert found == {f"clip-benchmark/test/{i}/s{i:07d}": i % 3 for i in range(11)}
    index = data.ids.index("clip-benchmark/test/10/s0000010")
    assert (data[index].image == decode(encoded(10, "WEBP"), "x")).all()
    assert [(one.name, one.classes) for one in data.readings] == [("all", 3)]


def test_tars_beyond_their_number_are_left_out_and_missing_ones_named(root):
    (root / "test/nshards.txt").write_text("4")
    assert len(clip_benchmark(root)) == 4
    (root / "test/nshards.txt").write_text("12")
    with pytest.raises(DataMissing, match=r"1 of 12 shards do not exist: .*11\.tar"):
        clip_benchmark(root)


def test_without_names_classes_are_numbers(root):
    (root / "classnames.txt").unlink()
    assert clip_benchmark(root).classes == ("0", "1", "2")


def test_another_order_of_names_is_other_data(root):
    before = clip_benchmark(root).fingerprint
    (root / "classnames.txt").write_text("ape\nblack bear\nzebra\n")
    assert clip_benchmark(root).fingerprint != before


def test_fewer_names_than_classes_are_refused(root):
    (root / "classnames.txt").write_text("zebra\nblack bear\n")
    with pytest.raises(DataUnreadable, match="the largest class index is 2; classes = 2 allows 0 … 1"):
        clip_benchmark(root)


def test_tars_without_class_indices_are_not_labelled_by_their_names(root, encoded):
    for shard in range(2):
        tar(root / f"test/{shard}.tar", {"s0.jpg": encoded(shard, "JPEG")})
    (root / "test/nshards.txt").write_text("2")
    (root / "classnames.txt").write_text("zebra\nape\n")
    with pytest.raises(DataUnreadable, match=r"no sample of .*0\.tar has a class index \(\.cls\)"):
        clip_benchmark(root)


@pytest.mark.parametrize("kind", ["retrieval", "multilabel"])
def test_sets_for_other_tasks_are_refused(root, kind):
    (root / "dataset_type.txt").write_text(kind)
    with pytest.raises(DataUnreadable, match=f"says '{kind}'; only classification"):
        clip_benchmark(root)


def test_a_split_that_is_not_there_is_refused_with_those_that_are(root):
    with pytest.raises(DataMissing, match=r"no .*train/nshards\.txt, the number of tars; .* holds test\."):
        clip_benchmark(root, split="train")
    with pytest.raises(BadParameter, match="it is the name of a folder"):
        clip_benchmark(root, split="../other")
    (root / "test/nshards.txt").write_text("many")
    with pytest.raises(DataUnreadable, match="holds 'many'; it must be the number of tars"):
        clip_benchmark(root)
