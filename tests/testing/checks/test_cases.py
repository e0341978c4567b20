"""Which cases `check_env` plays, and what it says of them."""

import itertools
import time
from collections import Counter
from typing import ClassVar

import anyio
import pytest
from hypothesis import strategies as st

from tinker_rl.envs import EnvFromMessageEnv, MessageEnv, MessageStepResult, load_renderer
from tinker_rl.errors import ConfigError
from tinker_rl.testing import GroupScript, check_env

from .walk import Walk


class Noted(Walk):
    """Keeps all paths that came to their end."""

    paths: ClassVar[list[tuple[int, ...]]] = []

    async def step(self, action):
        result = await super().step(action)
        if result.episode_done:
            self.paths.append(self.path)
        return result


class Lock(Noted):
    """Opens to 1, 2, 3, 4, 5, 6 alone."""

    def reward(self):
        return float(self.path == (1, 2, 3, 4, 5, 6))


class Brittle(Lock):
    """Breaks when it is all but open, and hears too much."""

    def reward(self):
        if self.path[:5] == (1, 2, 3, 4, 5) and self.path[-1] < -8:
            raise KeyError("too much")
        return super().reward()


@pytest.fixture
def paths(monkeypatch):
    monkeypatch.setattr(Noted, "paths", [])
    return Noted.paths


def good_among(paths, actions):
    return [path for path in paths if set(path) <= set(actions)]


def test_named_actions_are_mixed(paths):
    named = range(1, 9)
    report = check_env(Noted, valid_actions=[[n] for n in named], renderer=20)
    good = good_among(paths, named)
    pairs = {pair for path in good for pair in itertools.pairwise(path)}
    assert len(pairs) == 64
    counts = Counter(action for path in good for action in path)
    assert max(counts.values()) < 1.5 * min(counts.values())
    num_valid, num_different = report.valid_episodes
    assert num_valid == num_different == 40


def test_actions_that_a_strategy_draws_are_mixed_too(paths):
    named = range(1, 9)
    drawn = st.sampled_from([[n] for n in named])
    report = check_env(Noted, valid_actions=drawn, renderer=20, max_examples=20)
    pairs = {pair for path in good_among(paths, named) for pair in itertools.pairwise(path)}
    assert len(pairs) > 50
    assert report.valid_episodes[1] >= 20
    assert report.valid_actions == {}


def test_the_report_says_what_was_played(paths):
    report = check_env(Walk, valid_actions=[[n] for n in range(1, 11)], renderer=20, max_examples=4)
    said = str(report).splitlines()
    num_valid, num_different = report.valid_episodes
    line = f"longest episode: 6 turns; {num_valid} episodes of valid actions alone, {num_different}"
    assert f"{line} different" in said
    (actions,) = (line for line in said if line.startswith("valid actions: "))
    often = max(report.valid_actions.values())
    assert f" {often} x, " in actions
    assert actions.endswith("and 2 others, 0 of them never")
    assert (report.longest, len(report.valid_actions)) == (6, 10)


def test_the_names_of_actions_are_texts_and_calls():
    class Told(MessageEnv):
        async def initial_observation(self):
            return [{"role": "user", "content": "Go on."}]

        async def step(self, message):
            shown = await self.initial_observation()
            return MessageStepResult(0.0, True, [*shown, message])

    renderer = load_renderer("tiny", "qwen3_instruct")
    call = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    long = "a" * 100
    options = {"valid_actions": ["left", call, long], "properties": ["ends"], "max_examples": 2}
    report = check_env(lambda: EnvFromMessageEnv(renderer, Told()), **options)
    assert list(report.valid_actions) == [
        "'left'",
        'f({"a": 1})',
        f"'{'a' * 29}...{'a' * 29}'",
    ]


def test_whole_episodes_are_played_first_and_then_with_one_thing_wrong(paths):
    episode = [[1], [2], [3], [4], [5], [6]]
    report = check_env(Lock, valid_episodes=[episode], renderer=20, max_examples=20)
    right = (1, 2, 3, 4, 5, 6)
    assert right in paths[:8]
    assert report.returns == (0.0, 1.0)
    assert not any("earned" in note for note in report.notes)
    dropped = {(*right[:n], *right[n + 1 :], 2 if n == 0 else 1) for n in range(6)}  # it goes on
    doubled = {(*right[:n], *right[n - 1 : 5]) for n in range(1, 6)}
    assert dropped & set(paths)
    assert doubled & set(paths)
    spoiled = [path for path in paths if sum(a == b for a, b in zip(path, right, strict=True)) == 5]
    assert {turn for path in spoiled for turn, a in enumerate(path) if a < 0} == set(range(6))


def test_what_only_a_late_action_breaks_is_found():
    episode = [[n] for n in range(1, 7)]
    with pytest.raises(AssertionError, match="KeyError: 'too much'") as caught:
        check_env(Brittle, valid_episodes=[episode, episode[:3]], renderer=20)
    assert caught.value.property == "answers_any_action"
    script = GroupScript.decode(caught.value.replay)
    assert [action.tokens[0] for action in script.members[0][:5]] == [1, 2, 3, 4, 5]
    check_env(Lock, valid_episodes=[episode], renderer=20, max_examples=2)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({}, "name better actions with valid_actions=..."),
        ({"valid_actions": [[1]]}, "name a whole episode that earns more with valid_episodes=..."),
    ],
)
def test_where_all_earn_the_same_it_says_what_would_help(given, advice):
    notes = check_env(Walk, renderer=20, max_examples=2, **given).notes
    assert f"every episode earned 0: {advice}" in notes


def test_one_turn_is_no_episode_to_name():
    class Short(Walk):
        def is_over(self):
            return len(self.path) == 1

    notes = check_env(Short, valid_actions=[[1]], renderer=20, max_examples=2).notes
    assert notes == ("every episode earned 0: name better actions with valid_actions=...",)


def test_after_its_time_no_more_is_played_and_the_report_says_so():
    report = check_env(Walk, renderer=20, seconds=0)
    assert report.num_cases == 1
    assert "no more cases were played after 0 s" in " ".join(report.notes)
    assert "no more cases" not in str(check_env(Walk, renderer=20, max_examples=1))


def test_time_that_passes_elsewhere_is_not_to_be_virtual():
    class Elsewhere(Walk):
        runs_in = "thread"

    def late(builder, **options):
        return " ".join(check_env(builder, renderer=20, seconds=0, **options).notes)

    assert "; virtual_time=True helps where it waits in the event loop alone" in late(Walk)
    assert "virtual_time" not in late(Elsewhere)
    assert "virtual_time" not in late(Walk, virtual_time=True)


def test_a_check_that_was_cut_short_says_nothing_of_what_was_earned():
    class Slow(Walk):
        async def step(self, action):
            time.sleep(0.002)  # noqa: ASYNC251
            return await super().step(action)

    (note,) = check_env(Slow, renderer=20, seconds=0.1).notes
    assert note.startswith("no more cases were played")


def test_time_is_virtual_on_request(backend):
    class Slow(Walk):
        async def step(self, action):
            await anyio.sleep(3600)
            return await super().step(action)

    options = {"renderer": 20, "max_examples": 1, "virtual_time": True, "backend": backend}
    check_env(Slow, max_step_seconds=4000, **options)
    with pytest.raises(AssertionError, match="expected an answer within 60 seconds") as caught:
        check_env(Slow, max_step_seconds=60, **options)
    assert caught.value.property == "answers_in_time"
    assert caught.value.again.endswith("virtual_time=True)")


@pytest.mark.parametrize("episodes", ["left", ["left"], [[]]])
def test_what_are_no_episodes_is_refused(episodes):
    with pytest.raises(ConfigError, match=r"expected a list of episodes, .* got .*\. Write"):
        check_env(Walk, valid_episodes=episodes)
