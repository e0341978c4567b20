"""Faulty, random and recording completers: what they do, that they nest, and that seeds decide."""

import math

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.completers import (
    ScriptedMessageCompleter,
    ScriptedTokenCompleter,
    TokensWithLogprobs,
)
from tinker_rl.envs import Env, ProblemGroupBuilder, StepResult, load_renderer
from tinker_rl.errors import CompleterError, ConfigError, UnknownNameError
from tinker_rl.policies import EpisodeKey
from tinker_rl.rl import InfraFailure, RolledOutGroup, RolloutLimits, do_group_rollout
from tinker_rl.testing.clock import run_in_virtual_time
from tinker_rl.testing.completers.faults import (
    DelayedCompleter,
    DelayedMessageCompleter,
    FailingCompleter,
    FailingMessageCompleter,
    FlakyCompleter,
    FlakyMessageCompleter,
    HangingCompleter,
    HangingMessageCompleter,
)
from tinker_rl.testing.completers.injected import is_injected
from tinker_rl.testing.completers.random_completers import (
    NONSENSE_KINDS,
    NONSENSE_TEXTS,
    NonsenseCompleter,
    NonsenseMessageCompleter,
    RandomCompleter,
    RandomMessageCompleter,
)
from tinker_rl.testing.completers.recording import RecordingCompleter, RecordingMessageCompleter
from tinker_rl.types import ModelInput

PROMPT = ModelInput.from_ints([5, 6, 7])
TALK = [{"role": "user", "content": "Hi"}]
STOP = [9]


class Turns(Env):
    """As many turns as it is told; each observation extends the last."""

    def __init__(self, num_turns=3):
        self.left = num_turns
        self.tokens = [5, 6, 7]

    async def initial_observation(self):
        return ModelInput.from_ints(self.tokens), STOP

    async def step(self, action):
        self.left -= 1
        self.tokens += [*action, 5]
        return StepResult(1.0, self.left == 0, ModelInput.from_ints(self.tokens), STOP)


def scripted():
    return ScriptedTokenCompleter(lambda prompt: [1, 9])


def group_of(actor, size=3, seed=0, **limits):
    """A group of episodes of three turns with this actor, in virtual time."""
    builder = ProblemGroupBuilder(Turns, num_envs=size)
    key = EpisodeKey(run_seed=seed, group=0)
    return run_in_virtual_time(do_group_rollout, builder, actor, key, RolloutLimits(**limits))


def tokens_of(outcome):
    assert isinstance(outcome, RolledOutGroup)
    return [[t.ac.tokens for t in one.transitions] for one in outcome.group.trajectories_G]


def ask(completer, calls, backend="trio", prompt=PROMPT):
    """Answers, or what was raised, of so many calls."""

    async def main():
        answers = []
        for _ in range(calls):
            try:
                args = (prompt, STOP) if isinstance(prompt, ModelInput) else (prompt,)
                answers.append(await completer(*args))
            except Exception as error:
                answers.append(error)
        return answers

    return run_in_virtual_time(main, backend=backend)


def test_a_delay_is_slept_and_drawn_by_seed(backend):
    async def seconds(completer, *args):
        began = anyio.current_time()
        await completer(*args)
        return anyio.current_time() - began

    def run(completer, *args):
        return run_in_virtual_time(seconds, completer, *args, backend=backend)

    assert run(DelayedCompleter(scripted(), 3600), PROMPT, STOP) == 3600
    drawn = [run(DelayedCompleter(scripted(), (1, 5), seed=n), PROMPT, STOP) for n in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(1 <= one <= 5 for one in drawn)
    assert run(DelayedMessageCompleter(ScriptedMessageCompleter(["Hi"]), 7), TALK) == 7
    with pytest.raises(ConfigError, match=r"DelayedCompleter\.seconds: expected"):
        DelayedCompleter(scripted(), (2, 1))


def test_a_failure_comes_at_its_call_and_not_before(backend):
    answers = ask(FailingCompleter(scripted(), at=1), 3, backend)
    assert [type(answer) for answer in answers] == [
        TokensWithLogprobs,
        CompleterError,
        TokensWithLogprobs,
    ]
    assert str(answers[1]) == "FailingCompleter: call 1 fails on purpose."
    assert len({id(e) for e in ask(FailingCompleter(scripted()), 2)}) == 2  # all, each its own
    several = ask(FailingCompleter(scripted(), at={0, 2}, error=OSError), 4)
    assert [isinstance(answer, OSError) for answer in several] == [True, False, True, False]
    (error,) = ask(FailingCompleter(scripted(), error=KeyError("mine")), 1)
    assert error.args == ("mine",)
    talk = FailingMessageCompleter(ScriptedMessageCompleter(["a", "b"]), at=1)
    said = ask(talk, 2, backend, TALK)
    assert said[0]["content"] == "a"
    assert isinstance(said[1], CompleterError)


def test_calls_are_counted_for_each_episode_by_itself():
    outcome = group_of(FailingCompleter(scripted(), at=2))
    failures = outcome.failures
    assert [failure.failure for failure in failures] == [failures[0].failure] * len(failures)
    assert isinstance(outcome.failure, InfraFailure)
    assert outcome.failure.error == "FailingCompleter: call 2 fails on purpose."
    assert outcome.num_sampled_tokens >= 4  # two turns of two tokens went well


@settings(max_examples=15)
@given(seed=st.integers(0, 2**40))
def test_flakiness_depends_on_the_seed_alone(seed):
    runs = [ask(FlakyCompleter(scripted(), 0.5, seed), 30) for _ in range(2)]
    failed = [[isinstance(answer, CompleterError) for answer in run] for run in runs]
    assert failed[0] == failed[1]
    assert 2 < sum(failed[0]) < 28


def test_flakiness_keeps_to_its_probability():
    assert not any(isinstance(a, Exception) for a in ask(FlakyCompleter(scripted(), 0), 50))
    assert all(isinstance(a, Exception) for a in ask(FlakyCompleter(scripted(), 1), 50))
    rare = ask(FlakyCompleter(scripted(), 0.1, error=OSError), 1000)
    assert 60 < sum(isinstance(answer, OSError) for answer in rare) < 140
    talk = FlakyMessageCompleter(ScriptedMessageCompleter(lambda messages: "a"), 0.5)
    assert (
        5 < sum(isinstance(answer, CompleterError) for answer in ask(talk, 50, "trio", TALK)) < 45
    )
    with pytest.raises(ConfigError, match=r"probability: expected 0 to 1; got 2"):
        FlakyCompleter(scripted(), 2)


def test_one_that_hangs_is_ended_by_the_limits_of_the_episode():
    actor = HangingCompleter(scripted(), at=1)
    outcome = group_of(actor, max_seconds=3600)
    assert [one.stop_reason for one in outcome.group.trajectories_G] == ["rollout_timeout"] * 3
    assert outcome.times.seconds == 3600  # virtual ones
    assert actor.num_waiting == 0


def test_whoever_waits_for_one_that_hangs_can_be_cancelled(backend):
    talk = HangingMessageCompleter(ScriptedMessageCompleter(["a"]))

    async def main():
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(talk, TALK)
            await anyio.sleep(1)
            assert talk.num_waiting == 3
            tasks.cancel_scope.cancel()

    run_in_virtual_time(main, backend=backend)
    assert talk.num_waiting == 0


def test_a_record_has_calls_answers_errors_and_times(backend):
    record = RecordingCompleter(FailingCompleter(DelayedCompleter(scripted(), 2), at=1))
    ask(record, 2, backend)
    first, second = record.calls
    assert (first.prompt, first.stop, first.answer.tokens) == (PROMPT, STOP, [1, 9])
    assert (first.seconds, first.error, first.place.turn) == (2, None, 0)
    assert (second.answer, second.seconds, second.place.turn) == (None, 0, 1)
    assert isinstance(second.error, CompleterError)
    talk = RecordingMessageCompleter(ScriptedMessageCompleter(["a"]))
    ask(talk, 1, backend, TALK)
    assert talk.calls[0].prompt == TALK
    assert talk.calls[0].answer == {"role": "assistant", "content": "a"}


def test_a_record_knows_who_asked():
    record = RecordingCompleter(scripted())
    group_of(record, size=2)
    places = sorted((call.place.episode.member, call.place.turn) for call in record.calls)
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert record.calls[0].max_tokens is None


@settings(max_examples=15)
@given(schedule=st.random_module(), seed=st.integers(0, 5))
def test_what_is_drawn_does_not_depend_on_who_comes_first(schedule, seed):
    late = DelayedCompleter(RandomCompleter(source=50, seed=seed), (0, 9), seed=schedule.seed)
    assert tokens_of(group_of(late)) == tokens_of(group_of(RandomCompleter(source=50, seed=seed)))


def test_random_actions_are_valid_ones_and_end_as_asked():
    renderer = load_renderer("tiny", "qwen3_instruct")
    stop = renderer.get_stop_sequences()
    actor = RandomCompleter(["yes", "no", "maybe"], renderer)
    answers = [answer.tokens for answer in ask(actor, 60)]
    texts = {renderer.tokenizer.decode(tokens[:-1]) for tokens in answers}
    assert texts == {"yes", "no", "maybe"}
    assert {tokens[-1] for tokens in answers} == {9}

    async def with_stop():
        return await RandomCompleter(["yes"], renderer)(PROMPT, stop)

    message, ending = renderer.parse_response(anyio.run(with_stop).tokens)
    assert (message["content"], ending.is_clean) == ("yes", True)
    with pytest.raises(ConfigError, match=r"RandomCompleter\.source: expected a renderer"):
        RandomCompleter(["yes"])
    with pytest.raises(ConfigError, match=r"RandomCompleter\.choices: expected one"):
        RandomCompleter([])


def test_logprobs_are_those_of_the_draw():
    (chosen,) = ask(RandomCompleter([[1, 2], [3, 4]]), 1)
    assert chosen.logprobs == [-math.log(2), 0, 0]
    drawn = ask(RandomCompleter(source=50), 40)
    assert all(a.logprobs == [-math.log(50)] * (len(a.tokens) - 1) + [0] for a in drawn)
    assert {len(answer.tokens) for answer in drawn} == set(range(2, 10))
    from_prompt = ask(RandomCompleter(), 20)
    assert {token for answer in from_prompt for token in answer.tokens} == {5, 6, 7, 9}


def test_every_kind_of_nonsense_is_what_its_name_says():
    answers = {kind: ask(NonsenseCompleter(100, kinds=[kind]), 20) for kind in NONSENSE_KINDS}
    assert {tuple(a.tokens) for a in answers["empty"]} == {()}
    assert {tuple(a.tokens) for a in answers["only_stop"]} == {(9,)}
    assert {(len(a.tokens), a.stop_reason) for a in answers["too_long"]} == {(256, "length")}
    assert {a.tokens[-1] for a in answers["random"] + answers["special"]} == {9}
    assert len({a.tokens[-1] for a in answers["unended"]}) > 5
    assert {tuple(a.tokens) for a in answers["echo"]} == {(5, 6, 7, 9), (6, 7, 9), (7, 9)}
    assert all(0 <= t < 100 for a in answers["random"] for t in a.tokens)
    with pytest.raises(UnknownNameError, match="expected kinds of nonsense; got 'rndom'"):
        NonsenseCompleter(kinds=["rndom"])


def test_special_tokens_are_those_of_the_tokenizer():
    renderer = load_renderer("tiny", "qwen3_instruct")
    special = set(renderer.tokenizer.all_special_ids)
    answers = ask(NonsenseCompleter(renderer, kinds=["special"]), 10)
    assert {token for answer in answers for token in answer.tokens} & special


@pytest.mark.parametrize("max_tokens", [1, 3])
def test_nonsense_keeps_to_the_limit_of_the_call(max_tokens):
    for actor in (NonsenseCompleter(100), RandomCompleter(source=100)):
        outcome = group_of(actor, size=8, max_tokens_per_turn=max_tokens)
        lengths = {len(action) for one in tokens_of(outcome) for action in one}
        assert max(lengths) == max_tokens


def test_messages_are_drawn_too(backend):
    hello = {"role": "assistant", "content": "Hello."}
    said = ask(RandomMessageCompleter(["Hi.", hello]), 20, backend, TALK)
    assert {message["content"] for message in said} == {"Hi.", "Hello."}
    nonsense = ask(NonsenseMessageCompleter(seed=3), 200, backend, TALK)
    assert {message["content"] for message in nonsense} == set(NONSENSE_TEXTS)
    with pytest.raises(ConfigError, match=r"RandomMessageCompleter\.choices: expected one"):
        RandomMessageCompleter([])


def test_an_episode_that_is_played_again_is_counted_anew():
    recorded = RecordingCompleter(scripted())
    group_of(recorded, size=1)
    group_of(recorded, size=1)
    assert [call.place.turn for call in recorded.calls] == [0, 1, 2, 0, 1, 2]


def test_a_fault_is_known_by_what_comes_of_it():
    (fault,) = ask(FailingCompleter(scripted(), error=OSError), 1)
    later, other = RuntimeError(), RuntimeError()
    later.__cause__ = ExceptionGroup("", [ValueError(), fault])
    assert is_injected(fault)
    assert is_injected(later)
    other.__cause__, other.__context__ = ValueError(), other
    other.__cause__.__cause__ = other
    assert not is_injected(other)
