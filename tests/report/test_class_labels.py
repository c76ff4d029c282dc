"""Names of classes for readers."""

from importlib import resources

from robustvit.report.class_labels import class_labels


def test_wnids_are_replaced_by_the_first_of_their_words() -> None:
    assert class_labels(["n01440764", "n02123045", "seven", "plaice, fluke"]) == ["tench", "tabby", "seven", "plaice"]


def test_classes_of_equal_words_are_told_apart() -> None:
    assert class_labels(["n02012849", "n03126707"]) == ["crane (n02012849)", "crane (n03126707)"]
    assert class_labels(["n02012849"]) == ["crane"]


def test_a_wnid_without_words_stays() -> None:
    assert class_labels(["n00000000"]) == ["n00000000"]


def test_every_class_of_imagenet_has_words_and_a_name_of_its_own() -> None:
    wnids = (resources.files("robustvit.data") / "imagenet_classes.txt").read_text(encoding="ascii").split()
    labels = class_labels(wnids)
    assert not set(wnids) & set(labels)
    assert len(set(labels)) == 1000
