"""Parts of data sets by the hash of a sample's id."""

from pathlib import Path

import numpy as np
import pytest

from robustvit.errors import BadParameter
from robustvit.evaluation.loading import load_data
from robustvit.evaluation.run import run
from robustvit.primitives.batch import traits
from robustvit.results.leaderboard import leaderboard
from robustvit.results.summary import summary
from robustvit.spec.parts import PARTS, in_part
from robustvit.spec.sample_order import order

STABLE = [0, 7, 20]  # of the first thirty test images of CIFAR-10
IDS = [f"imagenet/val/{i:08d}" for i in range(2000)]


def test_parts_are_disjoint_and_together_everything() -> None:
    assert (sum(in_part(IDS, name).astype(int) for name in PARTS) == 1).all()
    assert all(900 < in_part(IDS, name).sum() < 1100 for name in PARTS)


@pytest.mark.parametrize("count", [2, 3, 5, 7, 10])
def test_equal_parts_are_disjoint_and_together_everything(count: int) -> None:
    each = [in_part(IDS, f"{number}/{count}") for number in range(1, count + 1)]
    assert (sum(one.astype(int) for one in each) == 1).all()
    assert all(abs(one.mean() - 1 / count) < 0.04 for one in each)
    if count > 2:
        assert (in_part(IDS, f"1-{count - 1}/{count}") == ~each[-1]).all()
        assert (in_part(IDS, f"2-3/{count}") == (each[1] | each[2])).all() if count > 3 else True


def test_equal_parts_are_the_same_everywhere() -> None:
    """Their samples, written down, and the named halves."""
    assert np.flatnonzero(in_part([f"cifar10/test/{row:05d}" for row in range(30)], "2/5")).tolist() == STABLE
    assert (in_part(IDS, "1/2") == in_part(IDS, "calibration")).all()
    assert (in_part(IDS, "2/4") <= in_part(IDS, "1/2")).all()


@pytest.mark.parametrize("name", ["0/5", "6/5", "1/1", "1-5/5", "3-2/5", "2-2/5", "02/5", "1/1001", "1/5.0", "-1/5", "1/0", "2"])
def test_other_parts_are_refused(name: str) -> None:
    with pytest.raises(BadParameter, match=r"part is '.*'.* 2/5 is the second of five"):
        load_data(f"digits?part={name}")


def test_a_suite_and_a_nested_set_name_equal_parts(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: s\ntitle: S\ndata:\n- digits: {part: 2/4}\nscenarios: [clean]\nmetrics: [top1]\n")
    run(tmp_path / "s.yaml", ["demo+linear(data=digits?part=3-4/4)"], store=tmp_path / "store", limit=20)
    assert set(leaderboard(tmp_path / "store")["data"]) == {"digits?part=2/4"}
    with pytest.raises(BadParameter, match="learned of"):
        run(tmp_path / "s.yaml", ["demo+linear(data=digits?part=1-2/4)"], store=tmp_path / "store", limit=20)


def test_a_prefix_in_evaluation_order_has_samples_of_every_part() -> None:
    first = [IDS[i] for i in order(IDS)[:200]]
    assert 70 < in_part(first, "calibration").sum() < 130


def test_the_frames_of_a_clip_are_in_one_part() -> None:
    frames = in_part([f"cat{i}#{frame}" for i in range(50) for frame in range(4)], "evaluation").reshape(50, 4)
    assert (frames == frames[:, :1]).all()
    assert 10 < frames[:, 0].sum() < 40


def test_a_part_of_a_data_set_is_a_data_set() -> None:
    whole, parts = load_data("digits"), [load_data(f"digits?part={name}") for name in PARTS]
    assert sorted(name for part in parts for name in part.ids) == sorted(whole.ids)
    assert len({part.fingerprint for part in parts} | {whole.fingerprint}) == 3
    for part in parts:
        place = whole.ids.index(part.ids[7])
        assert (part[7].id, part[7].label, part.labels[7]) == (whole[place].id, whole[place].label, whole.labels[place])
        assert np.array_equal(part[7].image, whole[place].image)
    assert [part.name for part in parts] == ["digits?part=calibration", "digits?part=evaluation"]
    assert traits(load_data("digits?ink=grey&part=evaluation")).params == traits(load_data("digits?ink=grey")).params


def test_no_table_puts_two_parts_or_a_part_and_the_whole_into_one_row(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: s\ntitle: S\ndata: digits\nscenarios: [clean]\nmetrics: [top1]\n")
    for address in ("digits?part=calibration", "digits?part=evaluation", "digits"):
        run(tmp_path / "s.yaml", ["demo"], address, store=tmp_path / "store", limit=20)
    board = leaderboard(tmp_path / "store")
    shown = summary(board).set_index("data")
    assert set(shown.index) == {"digits", "digits?part=calibration", "digits?part=evaluation"}
    assert set(shown["n"]) == {"20"}
    assert "differs" not in shown
    assert not board["contents"].str.contains("by names").any()


def test_another_part_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        BadParameter, match=r"part is 'calibrate'. Did you mean 'calibration'\? It takes calibration, evaluation, or equal parts"
    ):
        load_data("digits?part=calibrate")
