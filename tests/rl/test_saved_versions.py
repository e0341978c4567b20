"""Past weights on the disk of a real engine."""

import anyio
import pytest

from tinker_rl.clients import ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.errors import CheckpointError
from tinker_rl.rl.saved_versions import SavedVersions
from tinker_rl.types import AdamParams, Datum, ModelInput

PROMPT = ModelInput.from_ints([5, 6, 7, 8])


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    options = EngineOptions(home=str(tmp_path_factory.mktemp("home")), threads=1)
    with ServiceClient(engine_options=options) as client:
        yield client


async def step(client):
    inputs = {"target_tokens": [6, 7, 8], "weights": [1.0, 1.0, 1.0]}
    datum = Datum(model_input=ModelInput.from_ints([5, 6, 7]), loss_fn_inputs=inputs)
    await (await client.forward_backward_async([datum], "cross_entropy"))
    await (await client.optim_step_async(AdamParams(learning_rate=1e-2)))


async def score(sampling_client):
    return (await sampling_client.compute_logprobs_async(PROMPT))[1:]


def test_each_version_comes_back_as_it_was_until_it_is_deleted(service, backend, caplog):
    async def go():
        client = await service.create_lora_training_client_async("tiny", 4)
        saved = SavedVersions(service, client, {})
        paths, scores = {}, []
        for version in range(3):
            await step(client)
            paths[version] = await saved.save(version)
            now = await client.save_weights_and_get_sampling_client_async()
            scores.append(await score(now))
        assert saved.versions == {0, 1, 2}
        later = SavedVersions(service, client, paths)  # of a restart
        for version in (0, 2, 1):
            assert await score(await later.load(version)) == pytest.approx(
                scores[version], abs=1e-5
            )
        assert max(abs(a - b) for a, b in zip(scores[0], scores[1], strict=True)) > 1e-3

        await saved.keep_only({1, 7})
        assert saved.versions == {1}
        await later.load(1)
        for known, found in ((saved, r"those of \[1\] only"), (later, r"an error \(.*\)")):
            with pytest.raises(CheckpointError, match=rf"version 2: expected .*; got {found}\. "):
                await known.load(2)
        await later.keep_only({1})  # what is gone already is no matter
        assert later.versions == {1}
        assert not caplog.records

    anyio.run(go, backend=backend)
