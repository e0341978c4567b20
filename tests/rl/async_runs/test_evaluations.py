"""Evaluations beside training: each of its own version, none lost, none in the way."""

import anyio
import pytest

from tinker_rl.rl import main
from tinker_rl.rl.journal import JOURNAL_FILE, Journal
from tinker_rl.types import ModelInput


class Probe:
    """Scores a prompt."""

    async def __call__(self, sampling_client):
        logprobs = await sampling_client.compute_logprobs_async(ModelInput.from_ints([5, 6, 7]))
        return {"probe/logprob": logprobs[1]}


def measured(log_path, runs):
    return {
        row["step"]: row["probe/logprob"] for row in runs.rows(log_path) if "probe/logprob" in row
    }


def num_committed(log_path):
    with Journal.read(log_path / JOURNAL_FILE) as journal:
        return len(journal.commits)


def config_of(log_path, runs, evaluator, **options):
    async_config = runs.fixed(1)
    options = {"eval_every": 2, **options}
    return runs.config(
        log_path, async_config=async_config, evaluator_builders=[evaluator], **options
    )


def test_a_slow_evaluation_holds_up_no_step_and_the_last_is_waited_for(
    runs, backend, world, tmp_path
):
    """That of version 0 ends after the last batch has begun, that of version 5 a while later."""

    class Slow(Probe):
        async def __call__(self, sampling_client):
            await world.until_started(9)
            await anyio.sleep(0.5)
            return await super().__call__(sampling_client)

    config = config_of(tmp_path, runs, Slow, dataset_builder=runs.Data(num_batches=5))
    summary = runs.run(config, backend)
    assert summary.num_steps_done == 5
    found = measured(tmp_path, runs)
    assert list(found) == [0, 2, 4, 5]
    assert len(set(found.values())) == 4


def finished(log_path, runs):
    """Groups that will not be sampled again."""
    return {*runs.records(log_path).groups}


def test_an_evaluation_that_was_cut_off_is_done_again_on_the_very_same_version(
    runs, backend, world, tmp_path
):
    """That of version 2 hangs until the run is cut off, with most steps done."""
    scopes, seen = [], []

    class Probed(Probe):
        async def __call__(self, sampling_client):
            seen.append(sampling_client)
            if scopes and len(seen) == 2:
                await world.until_started(9)
                with anyio.move_on_after(30):
                    while not {*range(8)} <= finished(tmp_path / "broken", runs):  # noqa: ASYNC110
                        await anyio.sleep(0.1)
                scopes.pop().cancel()
                await anyio.sleep_forever()
            return await super().__call__(sampling_client)

    async def cut_off():
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await main(config_of(tmp_path / "broken", runs, Probed), runs.service)
        assert scope.cancelled_caught

    runs.run(config_of(tmp_path / "unbroken", runs, Probed))
    seen.clear()
    anyio.run(cut_off, backend=backend)
    assert list(measured(tmp_path / "broken", runs)) == [0]
    world.made.clear()
    runs.run(config_of(tmp_path / "broken", runs, Probed), backend)
    assert list(measured(tmp_path / "broken", runs)) == [0, 2, 4, 5]
    assert world.made.keys() <= {8, 9}
    assert runs.account(tmp_path / "broken") == runs.account(tmp_path / "unbroken")


@pytest.mark.parametrize("ends_by", ["cancellation", "error"])
def test_a_step_that_waits_for_evaluations_is_no_obstacle_to_the_end_of_a_run(
    runs, backend, world, tmp_path, ends_by
):
    """The first evaluation hangs, two wait, and the step after cannot hand in its own."""
    scopes = []

    class Stuck(Probe):
        async def __call__(self, sampling_client):
            while num_committed(tmp_path) < 3:  # noqa: ASYNC110 - the journal tells nobody
                await anyio.sleep(0.05)
            await anyio.sleep(0.5)
            if ends_by == "error":
                raise OSError("the judge is gone")
            scopes.pop().cancel()
            await anyio.sleep_forever()

    async def go():
        with anyio.fail_after(60), anyio.CancelScope() as scope:
            scopes.append(scope)
            await main(config_of(tmp_path, runs, Stuck, **options), runs.service)

    options = {"dataset_builder": runs.Data(num_batches=6), "eval_every": 1}
    if ends_by == "error":
        with pytest.raises(OSError, match="the judge is gone"):
            anyio.run(go, backend=backend)
    else:
        anyio.run(go, backend=backend)
        assert not scopes
    assert num_committed(tmp_path) == 3
