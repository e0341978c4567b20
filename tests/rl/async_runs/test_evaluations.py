"""Evaluations beside training: each of its own version, none lost, none in the way."""

import anyio

from tinker_rl.rl import main
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


def config_of(log_path, runs, evaluator, **options):
    async_config = runs.fixed(1)
    return runs.config(
        log_path, async_config=async_config, eval_every=2, evaluator_builders=[evaluator], **options
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
                await anyio.sleep(0.5)
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
