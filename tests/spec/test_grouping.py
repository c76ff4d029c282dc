from robustvit.spec.grouping import grouped


def test_groups_come_in_the_order_of_their_first_value_and_keep_the_order_of_values() -> None:
    groups = grouped([("b", 1), ("a", 2), ("b", 3)])
    assert list(groups.items()) == [("b", [1, 3]), ("a", [2])]


def test_no_pairs_make_no_groups() -> None:
    assert grouped([]) == {}
