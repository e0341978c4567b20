import gc

from tinker_rl.rl.heap import frozen_heap


def test_what_there_was_is_out_of_the_collectors_sight_until_the_end():
    before = gc.get_freeze_count()
    with frozen_heap():
        assert gc.get_freeze_count() > before + 1000
    assert gc.get_freeze_count() <= before
