import torch

from robustvit.data.annotations.wnids import readings, wnids


def test_there_are_a_thousand_classes_in_sorted_order():
    assert len(set(wnids())) == 1000
    assert list(wnids()) == sorted(wnids())
    assert (wnids()[0], wnids()[207], wnids()[999]) == ("n01440764", "n02099601", "n15075141")


def test_some_of_the_thousand_are_read_among_themselves_and_among_all():
    mask, every = readings([wnids()[7], wnids()[3]])
    logits = torch.arange(1000.0)[None]
    assert (mask.name, mask.classes, mask.read(logits).tolist()) == ("mask", 2, [[7.0, 3.0]])
    assert (every.name, every.classes) == ("1000way", 1000)
    assert every.read(logits)[0, :5].tolist() == [7.0, 3.0, 0.0, 1.0, 2.0]
    assert sorted(every.read(logits)[0].tolist()) == logits[0].tolist()


def test_all_thousand_and_classes_of_other_names_are_read_as_they_come():
    for classes in (wnids(), ("cat", "n01440764")):
        (reading,) = readings(classes)
        assert (reading.columns, reading.classes) == (None, len(classes))
