"""The line that plays a finding again."""

import pytest

from tinker_rl.envs import load_renderer
from tinker_rl.rl import RolloutLimits
from tinker_rl.testing import EnvCheckError, check_env
from tinker_rl.testing.checks.replay_line import replay_line

from .walk import Walk


class Rich(Walk):
    def reward(self):
        return 1.0


def test_it_has_the_options_that_the_finding_depends_on():
    options = {"reward_range": (-1.0, 1.0), "skip": {"ends": "on purpose"}, "renderer": 20}
    with pytest.raises(EnvCheckError) as caught:
        check_env(Rich, valid_actions=[[1]], max_examples=2, limits=RolloutLimits(), **options)
    again = caught.value.again
    assert again == (
        f'check_env(Rich, replay="{caught.value.replay}", reward_range=(-1.0, 1.0), '
        "limits=RolloutLimits(), renderer=20, skip={'ends': 'on purpose'})"
    )
    assert str(caught.value).endswith(f"Play it again with: {again}")
    names = {"check_env": check_env, "Rich": Rich, "RolloutLimits": RolloutLimits}
    with pytest.raises(EnvCheckError) as replayed:
        eval(again, names)
    assert str(replayed.value) == str(caught.value)


def test_limits_are_written_as_they_were_given_and_what_has_no_text_is_named():
    options = {
        "limits": RolloutLimits(max_turns=3, max_seconds=7.0),
        "renderer": load_renderer("tiny", "qwen3_instruct"),
        "valid_actions": ["a" * 200],
    }
    assert replay_line("eN", lambda: Walk(), options).splitlines() == [
        'check_env(builder, replay="eN", limits=RolloutLimits(max_turns=3, max_seconds=7.0))',
        "and give it the same renderer and valid_actions",
    ]


def test_a_replay_that_finds_nothing_says_so():
    with pytest.raises(EnvCheckError) as caught:
        check_env(Rich, reward_range=(-1.0, 1.0), renderer=20)
    report = check_env(Rich, replay=caught.value.replay, renderer=20)
    assert str(report).splitlines()[1].startswith("  note: this replay found nothing wrong: ")
    assert "this replay" not in str(check_env(Rich, renderer=20, max_examples=1))
