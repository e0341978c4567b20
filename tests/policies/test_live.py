"""The live policy on the real engine: versions, seeds, and weights that do not change under it."""

import anyio
import numpy as np
import pytest

from tinker_rl.errors import RequestError
from tinker_rl.policies import EpisodeKey, FrozenPolicy, LivePolicy, completer_for
from tinker_rl.types import AdamParams, Datum, ModelInput

PROMPT = ModelInput.from_ints([5, 6, 7])
KEY = EpisodeKey(run_seed=1, group=2, member=3)


async def act(policy, key=KEY, turns=1, **options):
    completer = policy.completer(key)
    return [await completer(PROMPT, [], **options) for _ in range(turns)]


async def learn(client):
    """Change the weights a lot."""
    datum = Datum(PROMPT, {"target_tokens": [6, 7, 8], "weights": [1.0, 1.0, 1.0]})
    gradients = await client.forward_backward_async([datum], "cross_entropy")
    step = await client.optim_step_async(AdamParams(learning_rate=0.1))
    await gradients
    await step


def test_every_version_acts_with_the_weights_it_was_published_with(service, backend):
    async def go():
        client = await service.create_lora_training_client_async("tiny", rank=4, seed=0)
        policy = LivePolicy(client, max_tokens=8)
        assert policy.policy_version == -1
        await policy.publish(0)
        (before,) = await act(policy)
        await learn(client)
        await policy.publish(3)
        (after,) = await act(policy)
        assert (before.policy_version, after.policy_version) == (0, 3)
        assert policy.policy_version == 3
        (again,) = await act(policy.at(0))
        assert again == before
        assert (after.tokens, after.logprobs) != (before.tokens, before.logprobs)

        policy.retire(1)
        with pytest.raises(RequestError, match=r"one of the versions \[3\]; got 0"):
            policy.at(0)
        policy.retire(99)  # the newest stays, whatever is asked
        assert policy.pinned(3).policy_version == 3
        with pytest.raises(RequestError, match="a version above 3; got 3"):
            await policy.publish(3)

    anyio.run(go, backend=backend)


def test_an_episode_keeps_its_version_when_a_newer_one_is_published(service, backend):
    async def go():
        client = await service.create_lora_training_client_async("tiny", rank=4, seed=0)
        policy = LivePolicy(client, max_tokens=4)
        await policy.publish(0)
        completer = policy.completer(KEY)
        await completer(PROMPT, [])
        await policy.publish(1)
        policy.retire(1)
        assert (await completer(PROMPT, [])).policy_version == 0

    anyio.run(go, backend=backend)


def test_an_episode_is_the_same_whenever_it_is_played(service, backend):
    async def go():
        sampling_client = await service.create_sampling_client_async(base_model="tiny")
        policy = FrozenPolicy(sampling_client, max_tokens=8)
        other = EpisodeKey(run_seed=1, group=2, member=4)
        episodes = {}
        async with anyio.create_task_group() as tasks:

            async def play(name, key):
                episodes[name] = await act(policy, key, turns=3)

            tasks.start_soon(play, "one", KEY)
            tasks.start_soon(play, "other", other)
        assert episodes["one"] == await act(policy, turns=3)
        assert episodes["one"] != episodes["other"]
        assert len({tuple(action.tokens) for action in episodes["one"]}) > 1
        for action in episodes["one"]:
            assert action.policy_version is None
            assert np.all(np.array(action.logprobs) <= 0)

    anyio.run(go, backend=backend)


@pytest.mark.parametrize("max_tokens", [None, 1, 3, 100])
def test_an_action_is_as_long_as_both_limits_allow(service, backend, max_tokens):
    async def go():
        sampling_client = await service.create_sampling_client_async(base_model="tiny")
        (action,) = await act(FrozenPolicy(sampling_client, max_tokens=5), max_tokens=max_tokens)
        assert len(action.tokens) == min(5, max_tokens or 5)
        assert action.stop_reason == "length"

    anyio.run(go, backend=backend)


def test_one_completer_may_act_for_all(service):
    async def go():
        sampling_client = await service.create_sampling_client_async(base_model="tiny")
        policy = FrozenPolicy(sampling_client, max_tokens=5)
        completer = completer_for(policy, KEY)
        assert completer_for(completer, KEY) is completer
        assert completer_for(policy, KEY) is not completer

    anyio.run(go)
