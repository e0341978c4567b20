"""A game for two: whoever is cut off loses, and the other side has its result at once."""

import importlib
from pathlib import Path

import pytest

from tinker_rl.completers import ScriptedTokenCompleter
from tinker_rl.envs import MessageEnv
from tinker_rl.policies import EpisodeKey
from tinker_rl.rl import DroppedGroup, RolloutLimits, do_group_rollout
from tinker_rl.testing import run_in_virtual_time

EXAMPLES = Path(__file__).parents[2] / "examples"
KEY = EpisodeKey(run_seed=0, group=0)


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("two_players")


def played(example, *texts, backend="trio", **limits):
    """A game in which these are written in turn; what stands for an end is `.`."""
    builder = example.make_group()
    encode = builder.renderer.tokenizer.encode
    tokens = [encode(text.replace(".", "<|im_end|>")) for text in texts]
    completer = ScriptedTokenCompleter(tokens)
    limits = RolloutLimits(max_tokens_per_turn=8, **limits)
    return run_in_virtual_time(do_group_rollout, builder, completer, KEY, limits, backend=backend)


def test_the_game_and_its_cancellation_are_checked(example):
    report, cancelled = example.check(max_examples=4)
    assert report.returns == (-1, 1)
    assert report.notes == ()
    assert cancelled.findings == ()
    assert "Player.step" in str(cancelled)


def test_whoever_takes_the_last_stone_wins(example, backend):
    outcome = played(example, "3.", "3.", "3.", "1.", backend=backend)
    assert outcome.group.final_rewards_G == [-1.0, 1.0]
    assert outcome.group.metrics_G == [{"won": 0.0}, {"won": 1.0}]


@pytest.mark.parametrize("bad", ["1 2 3 4 5 6 7 8 9.", "1", "four."])
@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_message_that_is_none_loses_and_the_other_side_wins_at_once(example, moves, bad):
    last = [] if moves else ["Well."]  # it had nothing to wait for yet, and says something
    outcome = played(example, *["1."] * moves, bad, *last)
    won = 1.0 if moves % 2 else -1.0
    assert outcome.group.final_rewards_G == [won, -won]
    assert outcome.times.seconds == 0


def test_a_limit_of_the_run_loses(example):
    outcome = played(example, "1.", "1.", max_turns=1)
    assert outcome.group.final_rewards_G == [-1.0, 1.0]
    assert [str(e.stop_reason) for e in outcome.group.trajectories_G] == ["max_turns", "completed"]


def test_without_the_hook_the_other_side_waits_until_the_group_is_lost(example, monkeypatch):
    monkeypatch.setattr(example.Player, "on_early_end", MessageEnv.on_early_end)
    outcome = played(example, "1.", "1")
    assert isinstance(outcome, DroppedGroup)
    assert (outcome.failure.where, outcome.failure.error_type) == ("step", "TimeoutError")
    assert "must wake the others" in outcome.failure.error
    assert outcome.times.seconds == 600


def test_it_says_who_won(example, capsys, monkeypatch):
    monkeypatch.setattr(example, "check", lambda: ())
    example.main()
    said = capsys.readouterr().out
    assert "long thoughts: player 0 earns -1, messages: 1, max_tokens" in said
