"""Policies that take up new weights while episodes run, on the real engine."""

import itertools

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.engine.samplers.embedded.sampler import EmbeddedSampler
from tinker_rl.policies import EpisodeKey, LivePolicy
from tinker_rl.types import AdamParams, Datum, EncodedTextChunk, ModelInput, SamplingParams

PROMPT = ModelInput.from_ints([5, 6, 7])
KEY = EpisodeKey(run_seed=1, group=2, member=3)
LIMIT = 60
"""Tokens of an action, a few times as many as a step of training and a publish take steps."""


numbers = itertools.count()


class Steps:
    """Decoding steps of the sampler, one a burst, so that a publish takes few of them."""

    def __init__(self):
        self.count = 0

    async def pass_by(self, number, is_over=lambda: False):
        """Wait until the sampler has worked so often, or until nothing is left for it to do."""
        end = self.count + number
        while self.count < end and not is_over():  # noqa: ASYNC110, a thread counts
            await anyio.sleep(0.001)


@pytest.fixture(scope="module", autouse=True)
def steps():
    """Counts the steps of all samplers."""
    counted, burst = Steps(), EmbeddedSampler.burst

    def one_step(sampler, seconds):
        done = burst(sampler, 0.0)
        counted.count += 1
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmbeddedSampler, "burst", one_step)
        yield counted


async def learn(client):
    """Change the weights a lot, each time in another way."""
    targets = [6, 7, 8 + next(numbers)]
    datum = Datum(PROMPT, {"target_tokens": targets, "weights": [1.0, 1.0, 1.0]})
    gradients = await client.forward_backward_async([datum], "cross_entropy")
    step = await client.optim_step_async(AdamParams(learning_rate=0.02))
    await gradients
    await step


async def live(service, **options):
    """A policy that was published once, and its training client."""
    client = await service.create_lora_training_client_async("tiny", rank=4, seed=0)
    policy = LivePolicy(client, **options)
    await policy.publish(0)
    return policy, client


async def expected(policy, key, turn, action, stop):
    """The tokens and logprobs of an action, part by part, as pinned versions sample them."""
    tokens, logprobs = [], []
    for part, (version, count) in enumerate(action.spans):
        seed = key.sampling_seed(turn, part)
        params = SamplingParams(max_tokens=count, seed=seed, stop=stop)
        prompt = PROMPT.append(EncodedTextChunk(tuple(tokens))) if tokens else PROMPT
        response = await policy.pinned(version).sampling_client.sample_async(prompt, 1, params)
        tokens += response.sequences[0].tokens
        logprobs += response.sequences[0].logprobs
    return tokens, logprobs


@pytest.mark.parametrize("refresh", ["turn", "publish"])
def test_every_turn_takes_the_version_that_is_newest_at_its_start(service, backend, refresh):
    async def go():
        policy, client = await live(service, max_tokens=5, refresh=refresh)
        completer = policy.at(0).completer(KEY)
        versions = []
        for version in range(1, 4):
            action = await completer(PROMPT, [])
            versions.append(action.policy_version)
            assert action.version_spans is None
            whole = await expected(policy, KEY, version - 1, action, [])
            assert (action.tokens, action.logprobs) == whole
            await learn(client)
            await policy.publish(version)
        assert versions == [0, 1, 2]
        policy.retire(3)
        assert (await completer(PROMPT, [])).policy_version == 3

    anyio.run(go, backend=backend)


def test_with_refresh_at_turns_an_action_keeps_its_version_to_its_end(service, backend):
    async def go():
        policy, _ = await live(service, max_tokens=80, refresh="turn")
        actions = []
        async with anyio.create_task_group() as tasks:

            async def act():
                actions.append(await policy.completer(KEY)(PROMPT, []))

            tasks.start_soon(act)
            await anyio.wait_all_tasks_blocked()
            await policy.publish(1)
            policy.retire(1)
        assert actions[0].spans == ((0, 80),)

    anyio.run(go, backend=backend)


@given(
    pauses=st.lists(st.integers(0, 30), min_size=1, max_size=3),
    num_episodes=st.integers(1, 3),
    stop=st.sampled_from([[], list(range(0, 1024, 199)), ["ing", "\n\n"], ["e", "12"]]),
)
@settings(max_examples=6, deadline=None)
def test_a_publish_takes_over_what_is_being_sampled(service, steps, pauses, num_episodes, stop):
    """Each part is, bit for bit, what its version samples from the tokens so far."""

    async def go():
        policy, client = await live(service, max_tokens=LIMIT, refresh="publish")
        keys = [EpisodeKey(run_seed=1, group=0, member=i) for i in range(num_episodes)]
        actions = {}
        async with anyio.create_task_group() as tasks:

            async def act(key):
                actions[key.member] = await policy.at(0).completer(key)(PROMPT, stop)

            for key in keys:
                tasks.start_soon(act, key)
            for version, pause in enumerate(pauses, 1):
                await steps.pass_by(pause, lambda: len(actions) == num_episodes)
                await learn(client)
                await policy.publish(version)
        assert len(policy._in_flight) == 0
        decode = policy.pinned(0).sampling_client.get_tokenizer().decode
        for key in keys:
            action = actions[key.member]
            whole = await expected(policy, key, 0, action, stop)
            assert (action.tokens, action.logprobs) == whole
            assert action.token_versions == sorted(action.token_versions)
            check_end(action, stop, decode)

    anyio.run(go)


def check_end(action, stop, decode):
    """It ends where a stop condition, or the limit, first holds of all of its tokens."""
    strings = [string for string in stop if isinstance(string, str)]
    met = [
        token in stop or any(string in decode(action.tokens[: i + 1]) for string in strings)
        for i, token in enumerate(action.tokens)
    ]
    if action.stop_reason == "stop":
        assert met.index(True) == len(met) - 1
    else:
        assert action.stop_reason == "length"
        assert len(met) == LIMIT
        assert not any(met)


def test_a_publish_reaches_samples_that_run_and_samples_that_wait(service, steps, backend):
    """The sampler takes one request at a time, so the last ones have not begun."""

    async def go():
        policy, client = await live(service, max_tokens=LIMIT, refresh="publish")
        await learn(client)
        actions = []
        async with anyio.create_task_group() as tasks:

            async def act(member):
                key = EpisodeKey(run_seed=1, group=0, member=member)
                actions.append(await policy.completer(key)(PROMPT, []))

            for member in range(5):
                tasks.start_soon(act, member)
            await steps.pass_by(5)
            await policy.publish(1)
        versions = [tuple(version for version, _ in action.spans) for action in actions]
        assert {(0, 1), (1,)} <= set(versions)
        for action, (first, *_) in zip(actions, versions, strict=True):
            assert action.policy_version == first
            assert (len(action.tokens), action.stop_reason) == (LIMIT, "length")

    anyio.run(go, backend=backend)


def test_a_publish_that_fails_leaves_the_old_version_acting(service, backend, monkeypatch):
    def fail(*_):
        raise RuntimeError("no room for the weights")

    async def go():
        policy, client = await live(service, max_tokens=LIMIT, refresh="publish")
        await learn(client)
        actions = []
        async with anyio.create_task_group() as tasks:

            async def act():
                actions.append(await policy.completer(KEY)(PROMPT, []))

            tasks.start_soon(act)
            await anyio.wait_all_tasks_blocked()
            with monkeypatch.context() as patch:
                patch.setattr(EmbeddedSampler, "add_version", fail)
                with pytest.raises(Exception, match="no room for the weights"):
                    await policy.publish(1)
        assert policy.policy_version == 0
        assert actions[0].spans == ((0, LIMIT),)
        assert (await policy.completer(KEY)(PROMPT, [])) == actions[0]

    anyio.run(go, backend=backend)


def test_a_cancelled_action_is_not_interrupted_any_more(service, backend):
    async def go():
        policy, _ = await live(service, max_tokens=450, refresh="publish")
        with anyio.move_on_after(0.05) as scope:
            await policy.completer(KEY)(PROMPT, [])
        assert scope.cancelled_caught
        assert len(policy._in_flight) == 0
        await policy.publish(1)

    anyio.run(go, backend=backend)
