"""How one episode ends, whatever the environment and the sampler do, and whenever time runs out."""

import math

import chz
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.completers import TokenCompleter, TokensWithLogprobs
from tinker_rl.envs import Env, StepResult, StopReason
from tinker_rl.errors import ConfigError, EngineError, PromptTooLongError, RequestError
from tinker_rl.rl.episode import do_single_rollout
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.rl.outcomes import (
    Completed,
    EnvFailure,
    InfraFailure,
    Truncated,
    UnfinishedEpisode,
)
from tinker_rl.types import ModelInput

PROMPT = ModelInput.from_ints([1])


class Script(Env):
    """Lasts `num_turns`; each call first waits, then does as `calls` says, which is a value to
    return or an error to raise."""

    def __init__(self, run, num_turns=1, waits=(), calls=(), prompt=PROMPT):
        self.run = run
        self.num_turns = num_turns
        self.waits = list(waits)
        self.calls = list(calls)
        self.prompt = prompt
        self.extras = []
        self.turn = 0

    async def initial_observation(self):
        await self.play(None)
        return self.prompt, [0]

    async def step(self, action, *, extra=None):
        self.extras.append(extra)
        self.turn += 1
        done = self.turn == self.num_turns
        return await self.play(
            StepResult(
                reward=1.0, episode_done=done, next_observation=self.prompt, next_stop_condition=[0]
            )
        )

    async def play(self, value):
        await self.run.pause(self.waits.pop(0) if self.waits else 0)
        call = self.calls.pop(0) if self.calls else None
        if isinstance(call, BaseException):
            raise call
        return value if call is None else call


class Says(TokenCompleter):
    """Samples up to `num_tokens` tokens a turn, after waiting; or raises what is in `calls`."""

    def __init__(self, run, num_tokens=2, waits=(), calls=(), stop_reason="stop"):
        self.run = run
        self.num_tokens = num_tokens
        self.waits = list(waits)
        self.calls = list(calls)
        self.stop_reason = stop_reason
        self.num_sampled = 0

    async def __call__(self, model_input, stop, *, max_tokens=None):
        await self.run.pause(self.waits.pop(0) if self.waits else 0)
        call = self.calls.pop(0) if self.calls else None
        if isinstance(call, BaseException):
            raise call
        size = self.num_tokens if max_tokens is None else min(self.num_tokens, max_tokens)
        self.num_sampled += size
        return TokensWithLogprobs([5] * size, [-1.0] * size, self.stop_reason, policy_version=3)


def told(failure):
    """What an environment's failure says, beside its place in this file."""
    assert isinstance(failure, EnvFailure)
    assert failure.location.startswith(f"{__file__}:")
    return failure.where, failure.error_type, failure.error


def test_an_episode_records_what_was_seen_done_and_earned(run):
    env = Script(run, num_turns=3)
    outcome = run(do_single_rollout, Says(run), env)
    assert isinstance(outcome, Completed)
    trajectory = outcome.trajectory
    assert trajectory.stop_reason == StopReason.COMPLETED
    assert [t.episode_done for t in trajectory.transitions] == [False, False, True]
    assert [t.reward for t in trajectory.transitions] == [1.0] * 3
    assert all(t.ob == PROMPT and t.ac.policy_version == 3 for t in trajectory.transitions)
    assert env.extras == [{"stop_reason": "stop"}] * 3


@given(
    num_turns=st.integers(1, 6),
    num_tokens=st.integers(1, 4),
    max_turns=st.none() | st.integers(1, 6),
    max_sampled_tokens=st.none() | st.integers(1, 12),
)
def test_turns_and_sampled_tokens_stay_within_their_limits(
    run, num_turns, num_tokens, max_turns, max_sampled_tokens
):
    limits = RolloutLimits(max_turns=max_turns, max_sampled_tokens=max_sampled_tokens)
    completer = Says(run, num_tokens)
    outcome = run(do_single_rollout, completer, Script(run, num_turns), limits)
    transitions = outcome.trajectory.transitions
    token_limit = 1000 if max_sampled_tokens is None else max_sampled_tokens
    turn_limit = 1000 if max_turns is None else max_turns
    expected = min(num_turns, turn_limit, math.ceil(token_limit / num_tokens))
    assert len(transitions) == expected
    assert completer.num_sampled == min(expected * num_tokens, token_limit)
    if expected == num_turns:
        assert isinstance(outcome, Completed)
    elif expected == turn_limit:
        assert outcome == Truncated(StopReason.MAX_TURNS, outcome.trajectory)
    else:
        assert outcome == Truncated(StopReason.MAX_SAMPLED_TOKENS, outcome.trajectory)
    assert outcome.trajectory.truncated == isinstance(outcome, Truncated)


class Grows(Script):
    """Shows all tokens so far, and more of its own; the first observation has one."""

    def __init__(self, run, num_turns, num_new):
        super().__init__(run, num_turns)
        self.num_new = num_new

    async def step(self, action, *, extra=None):
        result = await super().step(action, extra=extra)
        tokens = [*self.prompt.to_ints(), *action, *[2] * self.num_new]
        self.prompt = ModelInput.from_ints(tokens)
        return StepResult(1.0, result.episode_done, self.prompt, [0])


@given(
    num_turns=st.integers(1, 5),
    num_new=st.integers(0, 3),
    num_tokens=st.integers(1, 4),
    per_turn=st.none() | st.integers(1, 5),
    sampled=st.none() | st.integers(1, 12),
    trajectory=st.none() | st.integers(2, 20),
)
def test_an_action_has_the_room_that_the_tightest_limit_leaves(
    run, num_turns, num_new, num_tokens, per_turn, sampled, trajectory
):
    limits = RolloutLimits(
        max_tokens_per_turn=per_turn, max_sampled_tokens=sampled, max_trajectory_tokens=trajectory
    )
    env = Grows(run, num_turns, num_new)
    outcome = run(do_single_rollout, Says(run, num_tokens), env, limits)
    expected, length, left = [], 1, 1000 if sampled is None else sampled
    most = 1000 if trajectory is None else trajectory
    while len(expected) < num_turns and left and length < most:
        expected.append(min(num_tokens, per_turn or 1000, left, most - length))
        left -= expected[-1]
        length += expected[-1] + num_new
    transitions = outcome.trajectory.transitions
    assert [len(transition.ac.tokens) for transition in transitions] == expected
    if len(expected) == num_turns:
        assert isinstance(outcome, Completed)
    else:
        limit = StopReason.CONTEXT_OVERFLOW if left else StopReason.MAX_SAMPLED_TOKENS
        assert outcome == Truncated(limit, outcome.trajectory)


def test_a_first_observation_without_room_is_the_environments_failure(run):
    limits = RolloutLimits(max_trajectory_tokens=1)
    outcome = run(do_single_rollout, Says(run), Script(run), limits)
    assert told(outcome)[:2] == ("initial_observation", "PromptTooLongError")
    assert outcome.error.endswith(
        "within 1 tokens (RolloutLimits.max_trajectory_tokens); got one of 1"
    )


def test_an_action_that_was_cut_at_a_limit_truncates(run):
    class Cuts(Says):
        async def __call__(self, model_input, stop, *, max_tokens=None):
            assert max_tokens == 3
            return TokensWithLogprobs([5] * 3, [-1.0] * 3, "length")

    limits = RolloutLimits(max_tokens_per_turn=3)
    outcome = run(do_single_rollout, Cuts(run), Script(run), limits)
    assert outcome == Truncated(StopReason.MAX_TOKENS, outcome.trajectory)


@given(
    schedule=st.random_module(),
    waits=st.lists(st.integers(0, 9), min_size=4, max_size=4),
    max_step_seconds=st.integers(1, 9),
    max_seconds=st.none() | st.integers(1, 20),
)
def test_one_call_of_the_environment_has_a_limit_of_its_own(
    virtual, schedule, waits, max_step_seconds, max_seconds
):
    limits = RolloutLimits(
        max_step_seconds=max_step_seconds - 0.5,
        max_seconds=None if max_seconds is None else max_seconds - 0.25,
    )
    env = Script(virtual, 3, waits=waits)
    outcome = virtual(do_single_rollout, Says(virtual), env, limits)
    clock = 0
    for call, wait in enumerate(waits):
        end = min(clock + max_step_seconds - 0.5, max_seconds or 1000)
        if clock + wait >= end:
            where, kind, error = told(outcome)
            assert (where, kind) == ("step" if call else "initial_observation", "TimeoutError")
            is_step = max_seconds is None or clock + max_step_seconds - 0.5 < max_seconds - 0.25
            name = "max_step_seconds" if is_step else "max_seconds"
            assert f"(RolloutLimits.{name}); got none" in error
            return
        clock += wait
    assert isinstance(outcome, Completed)


@pytest.mark.parametrize("reason", list(StopReason))
def test_what_the_environment_says_of_the_end_is_kept(run, reason):
    last = StepResult(0.0, True, PROMPT, [0], stop_reason=reason)
    outcome = run(do_single_rollout, Says(run), Script(run, calls=[None, last]))
    if reason.truncated:
        assert outcome == Truncated(reason, outcome.trajectory)
    else:
        assert outcome == Completed(outcome.trajectory)
    assert outcome.trajectory.stop_reason == reason


def test_an_answer_cut_off_at_its_token_limit_is_truncated_and_keeps_its_reward(run):
    outcome = run(do_single_rollout, Says(run, stop_reason="length"), Script(run))
    assert outcome == Truncated(StopReason.MAX_TOKENS, outcome.trajectory)
    assert outcome.trajectory.transitions[0].reward == 1.0


errors = st.sampled_from(
    [ValueError("bad"), OSError("gone"), RequestError("no"), TimeoutError(), AssertionError()]
)


@given(num_turns=st.integers(1, 3), failing=st.integers(0, 3), error=errors)
def test_whatever_an_environment_raises_is_its_failure(run, num_turns, failing, error):
    env = Script(run, num_turns, calls=[None] * failing + [error])
    outcome = run(do_single_rollout, Says(run), env)
    if failing > num_turns:
        assert isinstance(outcome, Completed)
    else:
        where = "initial_observation" if failing == 0 else "step"
        named = f"Script.{where}: " if isinstance(error, RequestError) else ""
        assert told(outcome) == (where, type(error).__name__, f"{named}{error}")
        done = outcome.unfinished
        assert (done is None) == (failing == 0)
        if done is not None:
            assert len(done.transitions) == failing - 1
            assert done.observation == PROMPT
            assert done.action == TokensWithLogprobs([5, 5], [-1.0, -1.0], policy_version=3)


@given(num_turns=st.integers(1, 3), failing=st.integers(0, 2))
def test_a_sampler_that_breaks_is_no_fault_of_the_environment(run, num_turns, failing):
    completer = Says(run, calls=[None] * failing + [EngineError("out of memory")])
    outcome = run(do_single_rollout, completer, Script(run, num_turns))
    if failing >= num_turns:
        assert isinstance(outcome, Completed)
    else:
        done = outcome.unfinished
        assert outcome == InfraFailure("sample", "EngineError", "out of memory", done)
        assert len(done.transitions) == failing
        assert (done.observation, done.action) == (PROMPT, None)


@pytest.mark.parametrize("logprobs", [[math.nan], [-math.inf], [math.inf]])
def test_logprobs_that_are_no_numbers_are_the_samplers_failure(run, logprobs):
    class Broken(TokenCompleter):
        async def __call__(self, model_input, stop, *, max_tokens=None):
            return TokensWithLogprobs([5], logprobs)

    outcome = run(do_single_rollout, Broken(), Script(run))
    assert outcome == InfraFailure(
        "sample",
        "ArithmeticError",
        "the sampler gave logprobs that are not finite",
        UnfinishedEpisode(transitions=(), observation=PROMPT),
    )


def test_a_request_that_the_sampler_refuses_is_the_environments_failure(run):
    completer = Says(run, calls=[RequestError("token 99 is not in the vocabulary")])
    outcome = run(do_single_rollout, completer, Script(run))
    error = "Script.initial_observation: token 99 is not in the vocabulary"
    assert told(outcome) == ("observation", "RequestError", error)


def test_a_context_that_is_full_truncates_and_one_that_never_had_room_fails(run):
    full = PromptTooLongError("no room")
    outcome = run(do_single_rollout, Says(run, calls=[None, full]), Script(run, 3))
    assert outcome == Truncated(StopReason.CONTEXT_OVERFLOW, outcome.trajectory)
    assert len(outcome.trajectory.transitions) == 1
    outcome = run(do_single_rollout, Says(run, calls=[full]), Script(run, 3))
    error = "Script.initial_observation: no room"
    assert told(outcome) == ("initial_observation", "PromptTooLongError", error)


@pytest.mark.parametrize("bad", [ModelInput.empty(), [1, 2], None, "text"])
@pytest.mark.parametrize("at_first", [True, False])
def test_an_observation_to_act_on_has_tokens(run, bad, at_first):
    if at_first:
        outcome = run(do_single_rollout, Says(run), Script(run, prompt=bad))
        where = "initial_observation"
    else:
        step = StepResult(0.0, False, bad, [0])
        outcome = run(do_single_rollout, Says(run), Script(run, 2, calls=[None, step]))
        where = "step"
    assert isinstance(outcome, EnvFailure)
    assert outcome.where == where
    assert "at least one token" in outcome.error


@pytest.mark.parametrize("bad", [7, "done", (1.0, True)])
def test_a_step_that_answers_anything_else_is_a_failure(run, bad):
    outcome = run(do_single_rollout, Says(run), Script(run, calls=[None, bad]))
    assert isinstance(outcome, EnvFailure)
    assert "expected a StepResult" in outcome.error


@pytest.mark.parametrize("bad", [math.nan, math.inf, "much", None])
def test_a_reward_that_is_no_number_is_a_failure(run, bad):
    class Broken(Script):
        async def step(self, action, *, extra=None):
            return StepResult(bad, True, PROMPT, [0])

    outcome = run(do_single_rollout, Says(run), Broken(run))
    assert isinstance(outcome, EnvFailure)
    assert outcome.where == "step"


def test_an_environment_may_leave_out_the_extra(run):
    class Plain(Env):
        async def initial_observation(self):
            return PROMPT, [0]

        async def step(self, action):
            return StepResult(1.0, True, PROMPT, [0])

    assert isinstance(run(do_single_rollout, Says(run), Plain()), Completed)


@given(
    num_turns=st.integers(1, 3),
    env_waits=st.lists(st.integers(0, 4), min_size=4, max_size=4),
    sampler_waits=st.lists(st.integers(0, 4), min_size=3, max_size=3),
    max_seconds=st.integers(1, 12),
)
def test_time_that_runs_out_is_charged_to_whoever_was_waited_for(
    virtual, num_turns, env_waits, sampler_waits, max_seconds
):
    env = Script(virtual, num_turns, waits=env_waits)
    limits = RolloutLimits(max_seconds=max_seconds - 0.5)
    outcome = virtual(do_single_rollout, Says(virtual, waits=sampler_waits), env, limits)
    clock = env_waits[0]
    if clock >= max_seconds:
        assert isinstance(outcome, EnvFailure)
        assert outcome.where == "initial_observation"
        return
    for turn in range(num_turns):
        clock += sampler_waits[turn]
        if clock >= max_seconds:
            if turn == 0:
                assert isinstance(outcome, InfraFailure)
            else:
                assert outcome == Truncated(StopReason.ROLLOUT_TIMEOUT, outcome.trajectory)
                assert len(outcome.trajectory.transitions) == turn
            return
        clock += env_waits[turn + 1]
        if clock >= max_seconds:
            assert isinstance(outcome, EnvFailure)
            assert outcome.where == "step"
            assert outcome.error_type == "TimeoutError"
            return
    assert isinstance(outcome, Completed)


@pytest.mark.parametrize("name", sorted(chz.chz_fields(RolloutLimits)))
@pytest.mark.parametrize("bad", [0, -1, math.nan])
def test_a_limit_of_nothing_is_refused(name, bad):
    with pytest.raises(ConfigError, match=name):
        RolloutLimits(**{name: bad})
