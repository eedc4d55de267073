from pipeline.verify.pick import per_unit, some_of


def test_items_are_spread_over_units() -> None:
    many = dict.fromkeys(range(100), 1000)
    taken = per_unit(many, 8, seed=0)
    assert list(taken.values()) == [1] * 8
    assert taken == per_unit(dict(reversed(many.items())), 8, seed=0)
    assert taken.keys() != per_unit(many, 8, seed=1).keys()


def test_no_more_than_there_are() -> None:
    assert per_unit({3: 2, 5: 0, 7: 1}, 8, seed=0) == {3: 2, 7: 1}
    assert per_unit({0: 9}, 8, seed=0) == {0: 8}
    assert per_unit({}, 8, seed=0) == {}


def test_ids_keep_their_order() -> None:
    ids = [f"clip{index:03d}" for index in range(500)]
    chosen = some_of(ids, 20, unit=4, seed=0)
    assert chosen == sorted(chosen)
    assert len(set(chosen)) == 20
    assert chosen == some_of(ids, 20, unit=4, seed=0)
    assert chosen != some_of(ids, 20, unit=5, seed=0)
    assert chosen != some_of(ids, 20, unit=4, seed=1)
    assert some_of(ids[:3], 8, unit=0, seed=0) == ids[:3]
