"""What a check of an environment that is well says: numbers, and notes."""

import time
from functools import partial

import pytest

from tinker_rl.envs import (
    EnvFromMessageEnv,
    EnvGroupBuilder,
    MessageEnv,
    MessageStepResult,
    StepResult,
    current_rng,
    load_renderer,
)
from tinker_rl.testing import DrawnAction, GroupScript, check_env
from tinker_rl.types import ModelInput

from .sums import FEW, Sum, SumBuilder, Table, Unlucky, found


def test_a_check_in_which_all_earn_the_same_says_so():
    class Nothing(Sum):
        async def step(self, action):
            result = await super().step(action)
            return StepResult(0.0, result.episode_done, result.next_observation, [0])

    assert any("every episode earned 0" in note for note in check_env(Nothing, **FEW).notes)
    report = check_env(Nothing, max_examples=1)
    assert any("no tokenizer was found" in note for note in report.notes)


class Chat(MessageEnv):
    """Three questions; `pays` says what the last answer earns."""

    def __init__(self, pays):
        self.pays = pays
        self.messages = [{"role": "user", "content": "Go on."}]

    async def initial_observation(self):
        return list(self.messages)

    async def step(self, message):
        if len(self.messages) > 5:
            raise RuntimeError("over")
        self.messages += [message, {"role": "user", "content": "Go on."}]
        is_over = len(self.messages) > 5
        reward = self.pays(message["content"]) if is_over else 0.0
        return MessageStepResult(reward, is_over, list(self.messages))


def notes_of(pays, **options):
    renderer = load_renderer("tiny", "qwen3_instruct")
    chat = partial(SumBuilder, lambda: EnvFromMessageEnv(renderer, Chat(pays)))
    options = {"max_examples": 6, "properties": ["starts"], **options}
    return check_env(chat, **options).notes


def test_a_conversation_in_which_all_earn_the_same_says_so_whatever_could_not_be_read():
    (note,) = notes_of(lambda text: 0.0)
    assert note.startswith("every episode earned 0, but for messages that could not be read: ")
    assert note.endswith("name better actions with valid_actions=...")


def test_each_step_earning_the_same_is_noted_though_episodes_are_of_different_lengths():
    class Tired(Sum):
        async def step(self, action):
            result = await super().step(action)
            return StepResult(-1.0, result.episode_done, result.next_observation, [0])

    notes = check_env(Tired, properties=["starts"], renderer=10, max_examples=20).notes
    assert any(note.startswith("every step earned -1: ") for note in notes)


def test_an_empty_answer_that_earns_as_much_as_any_is_noted():
    pays_the_silent = notes_of(lambda text: float("7" not in text))
    assert any(n.startswith("an episode of empty answers earned 1") for n in pays_the_silent)
    assert notes_of(lambda text: float(text == "7"), valid_actions=["7"]) == ()


def test_nonsense_that_earns_as_much_as_any_is_noted():
    notes = notes_of(lambda text: float(bool(text)), valid_actions=["7"], max_examples=25)
    assert any("episodes of nonsense earned 1, and no other earned more" in n for n in notes)
    assert not any("empty" in note for note in notes)


def test_empty_answers_that_earn_the_most_are_not_noted_where_the_group_is_rewarded():
    class Novelty(SumBuilder):
        async def compute_group_rewards(self, trajectory_group, env_group):
            written = [tuple(t.transitions[0].ac.tokens) for t in trajectory_group]
            return [(float(written.count(each) == 1), {}) for each in written]

    class Unpaid(Sum):
        async def step(self, action):
            result = await super().step(action)
            return StepResult(0.0, result.episode_done, result.next_observation, [0])

    report = check_env(partial(Novelty, Unpaid), properties=["starts"], renderer=10)
    assert report.returns == (0.0, 1.0)
    assert not any("earned" in note for note in report.notes)


def test_no_better_actions_are_asked_for_where_named_ones_earn_the_most():
    options = {"valid_actions": ["7"], "max_examples": 25}
    notes = " ".join(notes_of(lambda text: float(bool(text)), **options))
    assert "no other earned more: see what is graded" in notes
    assert "if that is right" not in notes
    notes = " ".join(notes_of(lambda text: float("7" not in text), **options))
    assert "see what is graded; or, if that is right, name " in notes


def test_the_report_counts_one_as_one_and_shows_first_what_was_left_out():
    replay = GroupScript(0, ((DrawnAction((99,)),),)).encode()
    report = check_env(SumBuilder(size=1), replay=replay, renderer=100, skip={"ends": "mine"})
    lines = str(report).splitlines()
    assert lines[0] == "1 case, 1 episode (1 ended without a limit), 3 turns"
    assert lines.index("  ends                 skipped: mine") < lines.index("checked:")
    assert "  starts               1 case" in lines
    replay = GroupScript(0, ((DrawnAction((7,)),),)).encode()  # under seed 0 it wants a 5
    assert "(1 token)" in found(SumBuilder(Unlucky, size=1), replay=replay).transcript


def test_the_report_says_what_was_earned():
    class Paid(SumBuilder):
        async def compute_group_rewards(self, trajectory_group, env_group):
            return [(7.0, {}) for _ in trajectory_group]

    class Hopeless(Sum):
        async def initial_observation(self):
            shown = await super().initial_observation()
            self.wanted = -1
            return shown

    options = {"renderer": 10, "valid_actions": [[99]], "properties": ["ends"]}
    report = check_env(partial(Paid, partial(Hopeless, 1, 0.5)), max_examples=3, **options)
    assert report.valid_returns == (6.0, 6.0)  # 7 of the group, less two tokens
    least, greatest = report.returns
    assert least < 6 < greatest == 7  # for no token at all
    said = f"\nreturns from {least:g} to 7; of valid actions alone from 6 to 6\n"
    assert said in str(report)


def test_members_that_begin_otherwise_are_noted():
    report = check_env(SumBuilder(), **FEW)
    assert any("members of a group begin with different observations" in n for n in report.notes)
    for alike in (Table(), SumBuilder(size=1)):
        assert "observations" not in " ".join(check_env(alike, **FEW).notes)


class Secret(Sum):
    """Wants one token; which one, it does not say."""

    def __init__(self, wanted, dice=False):
        super().__init__(turns=1)
        self.secret = wanted
        self.dice = dice

    async def initial_observation(self):
        _, stop = await super().initial_observation()
        self.wanted = self.secret + (current_rng().randint(0, 5) if self.dice else 0)
        self.tokens = [9]
        return ModelInput.from_ints(self.tokens), stop


class SecretBuilder(EnvGroupBuilder):
    is_one = False

    async def make_envs(self):
        drawn = [current_rng().randint(1, 6) for _ in range(3)]
        return [Secret(drawn[0] if self.is_one else each) for each in drawn]


class OneSecretBuilder(SecretBuilder):
    is_one = True


class DiceBuilder(EnvGroupBuilder):
    async def make_envs(self):
        return [Secret(1, dice=True) for _ in range(3)]


def test_members_with_other_tasks_behind_the_same_prompt_are_noted():
    options = {**FEW, "valid_actions": [[n] for n in range(1, 7)]}
    (note,) = check_env(SecretBuilder, **options).notes
    said = "members of a group who do the same get different answers, under the same random numbers"
    assert note.startswith(f"{said}: rewards ")
    assert " in turn 1 of members 0 and " in note
    for alike in (OneSecretBuilder, DiceBuilder):
        assert check_env(alike, **options).notes == ()
    unknown = check_env(SecretBuilder, deterministic=False, **options)
    assert unknown.notes == ()


def test_what_is_guessed_is_not_called_valid_and_a_check_in_which_nobody_earned_says_so():
    options = {"valid_actions": None, "properties": ["starts"], "max_examples": 30}
    (note,) = notes_of(lambda text: -1.0 - (not text.isdigit()), **options)
    assert note.startswith("no episode earned more than -1, whatever was drawn: ")
    assert note.endswith("name better actions with valid_actions=...")
    assert notes_of(lambda text: float(text.isdigit()), **options) == ()
    options["valid_actions"] = ["7"]
    assert notes_of(lambda text: -1.0 - (not text.isdigit()), **options) == ()
    for named in (None, [[0]]):
        report = check_env(SumBuilder, valid_actions=named, **FEW)
        assert ("of valid actions alone" in str(report)) == (named is not None)
        assert (report.valid_returns is None) == (named is None)


@pytest.mark.parametrize("runs_in", ["loop", "thread"])
def test_a_call_that_sleeps_in_the_event_loop_is_noted(backend, runs_in):
    class Sleepy(Sum):
        async def step(self, action):
            time.sleep(0.12)  # noqa: ASYNC251
            return await super().step(action)

    Sleepy.runs_in = runs_in
    replay = GroupScript(0, ((DrawnAction((99,)),),)).encode()
    options = {"replay": replay, "properties": ["ends"], "renderer": 10, "backend": backend}
    notes = " ".join(check_env(partial(Sleepy, 2), **options).notes)
    said = "Sleepy.step held up the event loop for 0.1 s in 4 of 4 calls, without computing"
    assert (said in notes) == (runs_in == "loop")
