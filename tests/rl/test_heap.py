import gc

from tinker_rl.rl.heap import frozen_heap


def test_what_there_was_is_out_of_the_collectors_sight_until_the_end():
    gc.unfreeze()
    try:
        with frozen_heap():
            assert gc.get_freeze_count() > 1000
        assert gc.get_freeze_count() == 0
    finally:
        gc.freeze()


def test_what_somebody_else_froze_stays_frozen():
    frozen = gc.get_freeze_count()
    assert frozen > 1000  # by the tests
    with frozen_heap():
        assert 1000 < gc.get_freeze_count() <= frozen  # some of it may be let go meanwhile
    assert 1000 < gc.get_freeze_count() <= frozen
