from collections import Counter

import pytest

from robustvit.data.formats.left_out import LeftOut, ending_of


def test_nothing_left_out_is_said_with_nothing():
    assert (str(LeftOut()), bool(LeftOut())) == ("", False)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (LeftOut(linked_folders=1, links=1, hidden=1), "1 linked folder, 1 link, 1 hidden image or folder"),
        (LeftOut(Counter({".txt": 2, ".jxl": 1200}), links=2), "2 links, 1,202 files with other endings (.jxl, .txt)"),
        (LeftOut(Counter({f".{i}": 1 for i in range(7)})), "7 files with other endings (.0, .1, .2, .3, .4 and 2 more)"),
    ],
)
def test_every_reason_is_counted(found, text):
    assert str(found) == text
    assert found


def test_parts_are_added_and_known_endings_taken_out():
    both = LeftOut(Counter({".txt": 1}), 1, 2, 3) + LeftOut(Counter({".txt": 1, ".csv": 5}), 10, 20, 30)
    assert both == LeftOut(Counter({".txt": 2, ".csv": 5}), 11, 22, 33)
    assert both.without(".csv", ".json") == LeftOut(Counter({".txt": 2}), 11, 22, 33)


@pytest.mark.parametrize(("name", "ending"), [("a/b.c/d.TXT", ".txt"), ("a.b/LICENSE", "no ending"), ("x.tar.gz", ".gz")])
def test_an_ending_begins_at_the_last_dot_of_the_name(name, ending):
    assert ending_of(name) == ending
