"""What a start refuses, and what it says of a journal that is not well."""

import pytest

from tinker_rl.errors import ConfigError, JournalError
from tinker_rl.rl import AsyncConfig, StreamMinibatchConfig
from tinker_rl.rl.journal import JOURNAL_FILE, Journal


@pytest.mark.parametrize("size", [1, 3])
def test_batches_of_another_size_than_was_asked_for_are_refused(runs, world, tmp_path, size):
    config = runs.config(tmp_path, runs.Data(batch_size=size), async_config=runs.ahead(1, 2))
    with pytest.raises(ConfigError, match=f"groups_per_batch: expected {size}, the dataset's"):
        runs.run(config)
    assert not world.made
    runs.run(runs.config(tmp_path, async_config=runs.ahead(1, 2), max_steps=1))


def test_contradictory_options_are_listed_all_at_once(runs, tmp_path):
    with pytest.raises(ConfigError) as raised:
        runs.config(
            tmp_path,
            async_config=AsyncConfig(
                max_steps_off_policy=-1,
                groups_per_batch=4,
                lag="fixed",
                refresh="turn",
                straggler="mask",
            ),
            stream_minibatch_config=StreamMinibatchConfig(groups_per_batch=6, num_minibatches=4),
            kl_discount_factor=2.0,
            loss_fn="dro",
        )
    told = str(raised.value)
    for name in (
        "async_config.max_steps_off_policy: expected 0 or more; got -1",
        "async_config.straggler: expected 'wait' with lag='fixed'",
        "async_config.refresh: expected 'never' with lag='fixed'",
        "stream_minibatch_config.groups_per_batch: expected a multiple of",
        "groups_per_batch: expected the same in async_config and stream_minibatch_config",
        "kl_discount_factor: expected 0 to 1",
        "kl_penalty_coef: expected more than 0 with a kl_discount_factor",
        "loss_fn: expected a loss that an advantage of 0 masks",
    ):
        assert name in told
    assert "got 8 that do not" in told


def test_the_folder_of_another_configuration_is_left_alone_with_the_difference_shown(
    runs, world, tmp_path
):
    runs.run(runs.config(tmp_path, async_config=runs.fixed(1), max_steps=1))
    before = (tmp_path / JOURNAL_FILE).read_bytes()
    with pytest.raises(ConfigError) as raised:
        runs.run(runs.config(tmp_path, async_config=runs.fixed(2), learning_rate=2e-3))
    assert "learning_rate: 0.001 -> 0.002" in str(raised.value)
    assert "async_config.max_steps_off_policy: 1 -> 2" in str(raised.value)
    assert (tmp_path / JOURNAL_FILE).read_bytes() == before


def test_a_corrupt_journal_is_refused_by_the_offset_of_its_record(runs, world, tmp_path):
    config = runs.config(tmp_path, max_steps=2)
    runs.run(config)
    path = tmp_path / JOURNAL_FILE
    with Journal.read(path) as journal:
        offset = journal.groups[1]
    content = bytearray(path.read_bytes())
    content[offset + 40] ^= 1
    path.write_bytes(content)
    more = runs.config(tmp_path, max_steps=3)
    with pytest.raises(JournalError, match=rf"{path}.* {offset}\b"):
        runs.run(more)
    assert path.read_bytes() == content


@pytest.mark.parametrize(("lost", "backend"), [(1, "trio"), (60, "asyncio")])
def test_a_torn_journal_is_cut_and_reported_and_the_run_goes_on(
    runs, backend, world, tmp_path, capsys, lost
):
    """What is torn is the last commit, with which its step is done again, to the same weights."""
    unbroken = runs.unbroken(async_config=runs.fixed(1))
    config = runs.config(tmp_path, async_config=runs.fixed(1))
    runs.run(config)
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(path.read_bytes()[:-lost])
    with Journal.read(path) as journal:
        assert journal.torn is not None
        offset = journal.torn.offset
    world.made.clear()
    runs.run(config, backend)
    told = capsys.readouterr().out
    assert "was torn by a kill: " in told
    assert f"bytes at offset {offset} are cut off" in told
    assert not world.made
    assert runs.account(tmp_path) == runs.account(unbroken)
