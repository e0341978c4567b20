"""What `check_env` takes, and what it says."""

import random
from functools import partial
from typing import ClassVar

import anyio
import numpy as np
import pytest
from hypothesis import strategies as st

from tinker_rl.envs import (
    Env,
    EnvFromMessageEnv,
    MessageEnv,
    MessageStepResult,
    ProblemEnv,
    ProblemGroupBuilder,
    StepResult,
    current_rng,
    load_renderer,
)
from tinker_rl.errors import ConfigError, RequestError, UnknownNameError
from tinker_rl.rl import RolloutLimits
from tinker_rl.testing import (
    DrawnAction,
    EnvCheckError,
    GroupScript,
    check_env,
    check_env_async,
)
from tinker_rl.testing.checks.properties import PROPERTIES
from tinker_rl.types import ModelInput

from .sums import FEW, Sum, SumBuilder, Table, Unlucky, found


class Careless(Sum):
    async def step(self, action):
        if len(action) > 2:
            raise KeyError("three")
        return await super().step(action)


class InThread(Sum):
    runs_in = "thread"


class Growing(SumBuilder):
    def __reduce__(self):
        return Growing, (Sum, 3)


class Silent(MessageEnv):
    async def initial_observation(self):
        return []

    async def step(self, message):
        raise NotImplementedError


@pytest.mark.parametrize(
    "builder", [SumBuilder(), SumBuilder, Sum, lambda: Sum(), ProblemGroupBuilder(Sum, 1), Table()]
)
def test_it_takes_builders_and_functions_that_make_them_or_environments(builder, backend):
    report = check_env(builder, backend=backend, **FEW)
    assert report.num_cases > 3
    assert set(report.checked) | set(report.skipped) == set(PROPERTIES)


def test_the_report_says_what_was_left_out_and_why():
    assert check_env(Table(), **FEW).skipped == {
        "context": "no context_window was given",
        "rewards_of_some": "the members are linked: none is left out by itself",
        "rewards_in_range": "no reward_range was given",
        "isolated_members": "the members are linked: they depend on each other",
        "rewards_in_order": "the members are linked: who is who may matter",
        "reference_answer": "it is no ProblemEnv, or its reference answer is empty",
    }
    report = check_env(Sum, deterministic=False, skip={"ends": "on purpose"}, **FEW)
    assert report.skipped["ends"] == "on purpose"
    assert report.skipped["deterministic"] == "deterministic=False was given"
    assert "a function that makes environments was given" in report.skipped["pickles"]
    assert "ends                 skipped: on purpose" in str(report)


def test_a_finding_shows_the_smallest_case_where_it_is_and_how_to_see_it_again():
    error = found(SumBuilder(Careless), max_examples=40)
    assert error.property == "answers_any_action"
    line = Careless.step.__code__.co_firstlineno + 2
    assert error.location == f"{__file__}:{line}"
    assert error.finding.startswith("step: KeyError: 'three'. What a policy writes may be")
    *_, seen, written, broken = error.transcript.splitlines()
    assert seen.startswith("  sees    tokens [")
    assert "(3 tokens)" in written
    assert broken == "  breaks  KeyError: 'three'"
    again = found(SumBuilder(Careless), replay=error.replay)
    assert str(again) == str(error)
    assert check_env(SumBuilder(), replay=error.replay, renderer=10).num_cases == 1


def test_members_that_disturb_each_other_are_shown_in_both_orders():
    class Counted(Sum):
        acted: ClassVar = []

        async def initial_observation(self):
            self.acted.clear()
            return await super().initial_observation()

        async def step(self, action):
            result = await super().step(action)
            self.acted.append(1)
            reward = float(len(self.acted))
            return StepResult(reward, result.episode_done, result.next_observation, [0])

    replay = GroupScript(0, ((DrawnAction((9,)), DrawnAction((8,))), (DrawnAction((7,)),)))
    error = found(SumBuilder(partial(Counted, 2)), replay=replay.encode())
    assert error.property == "isolated_members"
    assert "whether the members act one after the other or in turn; got rewards" in error.finding
    lines = error.transcript.splitlines()
    assert lines[:2] == ["one member after the other:", "  member 0, seed 0"]
    assert lines[-4:] == [
        "  member 1 writes tokens [7] (earns 1), tokens [7] (earns 2)",
        "and a call of each member in turn:",
        "  member 0 writes tokens [9] (earns 1), tokens [8] (earns 3)",
        "  member 1 writes tokens [7] (earns 2), tokens [7] (earns 4)",
    ]


def test_what_outlives_a_group_is_told_as_it_was_seen():
    class Remembers(Sum):
        seen: ClassVar = set()

        async def step(self, action):
            result = await super().step(action)
            reward = float(tuple(action) in self.seen)
            self.seen.add(tuple(action))
            return StepResult(reward, result.episode_done, result.next_observation, [0])

    error = found(SumBuilder(Remembers), max_examples=20)
    assert error.property == "isolated_members"
    assert "the same episodes when the group is played a second time; got rew" in error.finding
    assert "and one member after the other, a second time:" in error.transcript


def test_a_pickled_builder_that_makes_another_number_says_how_many():
    error = found(Growing)
    assert error.property == "pickles"
    assert "the same environments; got 2 and 3 members, before and after." in error.finding


def test_a_finding_has_nothing_that_it_does_not_need():
    error = found(SumBuilder(Unlucky), valid_actions=[[6], [7], [8, 1]], max_examples=400)
    script = GroupScript.decode(error.replay)
    actions = [member for member in script.members if member != (DrawnAction((0,), kind="empty"),)]
    assert [[action.tokens[0] for action in member] for member in actions] == [[7]]


def test_it_looks_at_the_same_cases_each_time_unless_it_explores():
    played = []

    class Noted(Sum):
        async def step(self, action):
            played.append(tuple(action))
            return await super().step(action)

    def cases(**options):
        played.clear()
        check_env(Noted, **{**FEW, **options})
        return list(played)

    assert cases() == cases()
    assert any(cases(explore=True) != cases() for _ in range(3))


class Lucky(Env):
    """Each episode draws a number; the least ones break it."""

    drawn: ClassVar = []
    share = 0.0
    is_over = False

    async def initial_observation(self):
        return ModelInput.from_ints([1]), [0]

    async def step(self, action):
        if self.is_over:
            raise RuntimeError("over")
        self.is_over = True
        number = current_rng().random()
        self.drawn.append(number)
        if number < self.share:
            raise ZeroDivisionError
        return StepResult(0.0, True, ModelInput.empty(), [0])


def test_each_case_has_random_numbers_of_its_own(monkeypatch):
    monkeypatch.setattr(Lucky, "drawn", [])
    report = check_env(SumBuilder(Lucky, size=1), renderer=10)
    first = list(Lucky.drawn)
    assert report.num_cases > 60
    assert len(set(first)) > 0.9 * report.num_cases  # played twice, the same ones again
    counts = np.histogram(sorted(set(first)), bins=5, range=(0, 1))[0]
    assert min(counts) > 5
    Lucky.drawn.clear()
    check_env(SumBuilder(Lucky, size=1), renderer=10)
    assert Lucky.drawn == first


def test_what_breaks_now_and_then_is_found_and_replayed(monkeypatch):
    monkeypatch.setattr(Lucky, "share", 0.05)
    error = found(SumBuilder(Lucky), max_examples=40)
    assert error.property == "answers_any_action"
    assert str(found(SumBuilder(Lucky), replay=error.replay)) == str(error)


def test_it_leaves_global_random_numbers_as_they_were():
    random.seed(5)
    np.random.seed(5)
    check_env(Sum, **FEW)
    numbers = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    assert numbers == (random.random(), np.random.random())


def test_only_the_named_properties_are_checked():
    assert list(check_env(Careless, properties=["ends", "starts"], **FEW).checked) == [
        "starts",
        "ends",
    ]


def test_what_it_declares_of_its_turns_is_kept():
    assert found(partial(Sum, 4), max_turns=3).property == "ends"
    check_env(partial(Sum, 4), max_turns=4, **FEW)
    endless = partial(Sum, 10**6)
    error = found(endless)
    assert "one that goes on after 100 turns" in error.finding
    check_env(endless, limits=RolloutLimits(max_turns=4), **FEW)


def test_limits_cut_actions_and_episodes_as_in_a_run():
    lengths = set()

    class Noted(Sum):
        async def step(self, action, *, extra=None):
            lengths.add((len(action), extra["stop_reason"]))
            return await super().step(action)

    check_env(Noted, limits=RolloutLimits(max_tokens_per_turn=4, max_turns=2), **FEW)
    assert max(length for length, _ in lengths) == 4
    assert (4, "length") in lengths
    lengths.clear()
    check_env(Noted, limits=RolloutLimits(max_trajectory_tokens=20, max_turns=9), **FEW)
    assert max(length for length, _ in lengths) < 20
    lengths.clear()
    check_env(Noted, limits=RolloutLimits(max_sampled_tokens=7, max_turns=9), **FEW)
    assert max(length for length, _ in lengths) <= 7


def test_rewards_outside_of_what_was_claimed_are_found():
    check_env(Sum, reward_range=(0, 1), **FEW)
    error = found(partial(Sum, 3, 0.5), reward_range=(0, 1))
    assert error.property == "rewards_in_range"
    assert "expected a return from 0 to 1 (reward_range); got -" in error.finding


def test_episodes_that_were_cut_short_need_not_come_to_all_metrics():
    class Asks(MessageEnv):
        async def initial_observation(self):
            return [{"role": "user", "content": "Go on."}]

        async def step(self, message):
            asked = {"role": "user", "content": "Go on."}
            return MessageStepResult(0.0, False, [asked, message, asked], {"right": 1.0})

    renderer = load_renderer("tiny", "qwen3_instruct")
    tokens = renderer.tokenizer.encode("0")
    told = DrawnAction((*tokens, renderer.get_stop_sequences()[0]))
    cut = DrawnAction(tuple(tokens), "length")
    replay = GroupScript(0, ((cut,), (told, cut))).encode()
    make = partial(SumBuilder, lambda: EnvFromMessageEnv(renderer, Asks()))
    report = check_env(make, replay=replay, properties=["metrics"])
    assert report.num_turns == 3


def test_the_reference_answer_of_a_problem_is_tried():
    heard = set()

    class Pi(ProblemEnv):
        def get_question(self):
            return "Say pi."

        def check_answer(self, sample_str):
            heard.add(sample_str)
            return sample_str == "31415"

        def check_format(self, sample_str):
            return True

        def get_reference_answer(self):
            return "31415"

    renderer = load_renderer("tiny", "qwen3_instruct")
    check_env(lambda: Pi(renderer), max_examples=10)
    assert {"31415", "\\boxed{31415}"} <= heard


def test_an_empty_reference_answer_is_none():
    class Poem(ProblemEnv):
        def get_question(self):
            return "Write a line."

        def check_answer(self, sample_str):
            return len(sample_str) > 5 and sample_str.isalpha()

        def check_format(self, sample_str):
            return True

        def get_reference_answer(self):
            return ""

    problem = partial(Poem, load_renderer("tiny", "qwen3_instruct"))
    report = check_env(problem, properties=["starts", "reference_answer"], max_examples=1)
    assert "its reference answer is empty" in report.skipped["reference_answer"]


def test_a_right_answer_of_an_unusual_look_is_to_be_shown():
    class Shouted(ProblemEnv):
        def get_question(self):
            return "How many?"

        def check_answer(self, sample_str):
            return sample_str == "SEVEN!"

        def check_format(self, sample_str):
            return True

        def get_reference_answer(self):
            return "7"

    def check(**options):
        problem = partial(Shouted, load_renderer("tiny", "qwen3_instruct"))
        return check_env(problem, properties=["reference_answer"], max_examples=1, **options)

    with pytest.raises(EnvCheckError, match=r"show one with valid_actions=\[\.\.\.\]") as caught:
        check()
    assert caught.value.transcript == ""
    assert "smallest case" not in str(caught.value)
    assert check(valid_actions=["7", "SEVEN!"]).checked == {"reference_answer": 1}
    drawn = check(valid_actions=st.just("SEVEN!")).skipped["reference_answer"]
    assert drawn == "valid_actions draws, and lists no right answer"


def test_a_builder_that_does_not_pickle_hides_no_worse_finding():
    wrong = SumBuilder(lambda: Careless())
    assert found(wrong, max_examples=10).property == "answers_any_action"
    alone = found(SumBuilder(lambda: Sum()))
    assert (alone.property, alone.transcript) == ("pickles", "")


def test_environments_in_threads_are_checked_there(backend):
    check_env(InThread, backend=backend, renderer=10, max_examples=1)


def test_it_runs_event_loops_of_its_own(backend):
    async def inside():
        report = await check_env_async(Sum, **FEW)
        with pytest.raises(RequestError, match="Use `await check_env_async"):
            check_env(Sum)
        return report

    assert anyio.run(inside, backend=backend).num_cases > 3


@pytest.mark.parametrize(
    ("builder", "options", "error", "text"),
    [
        (lambda: Silent(), {}, RequestError, r"got Silent\. Wrap it: lambda: EnvFromMessageEnv"),
        (7, {}, RequestError, "expected an EnvGroupBuilder, or a function that makes one"),
        (Sum, {"properties": ["end"]}, UnknownNameError, "Did you mean 'ends'"),
        (Sum, {"skip": {"x": "y"}}, UnknownNameError, "expected names of properties; got 'x'"),
        (Sum, {"properties": "ends"}, ConfigError, r"Write properties=\['ends'\]"),
        (Sum, {"properties": ["rewards_in_range"]}, ConfigError, "Write reward_range="),
        (Sum, {"skip": ["pickles"]}, ConfigError, "expected names with reasons; got"),
        (Sum, {"valid_actions": "7"}, ConfigError, r"Write valid_actions=\['7'\]"),
        (Sum, {"max_examples": 0}, ConfigError, "expected 1 or more; got 0"),
        (Sum, {"replay": "?"}, RequestError, "expected the string that a failed check printed"),
    ],
)
def test_what_makes_no_sense_is_refused(builder, options, error, text):
    with pytest.raises(error, match=text):
        check_env(builder, **options)
