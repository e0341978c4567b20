"""Texts that read like a good answer."""

import json
import unicodedata

import pytest

from tinker_rl.envs import load_renderer
from tinker_rl.testing.strategies.actions import named_action
from tinker_rl.testing.strategies.look_alikes import (
    look_alike_actions,
    look_alike_episodes,
    look_alike_tokens,
    look_alikes,
)
from tinker_rl.testing.strategies.token_space import token_space
from tinker_rl.testing.strategies.tool_actions import hard_calls
from tinker_rl.testing.strategies.tools import Tool, called

SPACE = token_space(load_renderer("tiny", "qwen3_instruct"))


def written(*texts):
    """Look-alikes of good actions, as texts."""
    made = look_alike_actions(SPACE, [named_action(SPACE, text) for text in texts])
    stop = SPACE.stops[0]
    assert all(action.tokens[-len(stop) :] == stop for action in made)
    assert {action.kind for action in made} <= {"malformed"}
    return [SPACE.text(action.tokens[: -len(stop)]) for action in made]


def test_a_word_comes_in_other_letters():
    made = look_alikes("tea")
    assert {"\uff54\uff45\uff41", "\u1e97\u00e9\u00e1", "TEA", "tea\n", "teatea"} <= set(made)
    assert unicodedata.normalize("NFD", "\u1e97\u00e9\u00e1") in made
    assert "t\u200dea" in made
    assert len(set(made) - {"tea"}) == len(made)


def test_a_number_comes_in_other_digits():
    made = set(look_alikes("17"))
    assert {"\uff11\uff17", "\u00b9\u2077", "\u0661\u0667", "-17", "017", "17.0"} <= made


def test_what_has_no_letters_has_few():
    assert look_alikes("") == []
    assert set(look_alikes("?")) <= {"?\n", " ?\u00a0", "?\u200d", "??", "? ?"}


@pytest.mark.parametrize(
    ("texts", "before", "after"),
    [
        (["\\boxed{42}"], "\\boxed{", "}"),
        (["<think>so</think><guess>tea</guess>"], "<think>so</think><guess>", "</guess>"),
        (["I think.\n#### 42"], "I think.\n#### ", ""),
        (["guess tea now", "guess ten now"], "guess ", " now"),
        (["{'move': 'left'}", "{'move': 'right'}"], "{'move': '", "'}"),
    ],
)
def test_what_is_around_an_answer_stays(texts, before, after):
    made = written(*texts)
    assert len(made) > 5
    for text in made:
        assert text.startswith(before)
        assert text.endswith(after)


def test_of_several_words_all_are_changed_or_the_last():
    made = look_alikes("go north")
    assert {"GO NORTH", "go NORTH"} <= set(made)


def test_each_way_is_tried_once_and_on_others_in_turn():
    words = ["lemon", "melon", "olive", "plum"]
    made = written(*words)
    assert len(set(made)) == len(made) < 20
    assert {text.lower().rstrip() for text in made} & set(words)
    folded = {unicodedata.normalize("NFKD", text)[:1].lower() for text in made}
    assert folded >= {"l", "m", "o", "p"}


def test_a_good_episode_has_one_in_it():
    one, two = (named_action(SPACE, text) for text in ("left", "right"))
    made = look_alike_episodes(SPACE, [(one, two), (two,)])
    changed = {
        (len(episode), turn)
        for episode in made
        for turn, action in enumerate(episode)
        if action not in (one, two)
    }
    assert changed == {(2, 0), (2, 1), (1, 0)}
    assert all(sum(action not in (one, two) for action in episode) == 1 for episode in made)


def test_tokens_without_text_have_none():
    space = token_space(9)
    assert look_alike_actions(space, [named_action(space, [1, 2])]) == []
    assert look_alike_tokens(space, (1, 2), 3) == (1, 2, 1, 2)


def test_a_tool_gets_them_in_its_arguments_alone():
    calls = hard_calls(SPACE, [Tool("put", {"key": "drink"})])
    call = next(action for action in calls if called_with(action) == {"key": "DRINK"})
    assert look_alike_actions(SPACE, [call]) == []


def called_with(action):
    stop = SPACE.stops[0]
    found = [given for _, given in called(SPACE, [action.tokens[: -len(stop)]])]
    return json.loads(json.dumps(found[0])) if found else None
