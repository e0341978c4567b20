"""What the strategies draw, and what that shrinks to."""

import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from tinker_rl.envs import Env, StepResult, load_renderer
from tinker_rl.errors import RequestError, UnknownNameError
from tinker_rl.renderers import ToolCall, UnparsedToolCall
from tinker_rl.testing import (
    ACTION_KINDS,
    DrawnAction,
    EpisodeScript,
    GroupScript,
    actions,
    check_env,
    episodes,
    groups,
    messages,
    seeds,
    tool_calls,
)
from tinker_rl.testing.strategies.actions import hard_actions, named_action
from tinker_rl.testing.strategies.scripts import simpler_scripts
from tinker_rl.testing.strategies.token_space import TokenSpace
from tinker_rl.types import ModelInput

RENDERER = load_renderer("tiny", "qwen3_instruct")
STOP = RENDERER.get_stop_sequences()[0]
(ZERO,) = RENDERER.tokenizer.encode("0")
VOCABULARY = len(RENDERER.tokenizer)
QUICK = settings(
    max_examples=15, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def simplest(strategy, condition=lambda _: True):
    return find(strategy, condition, settings=settings(max_examples=300, database=None))


@QUICK
@given(data=st.data(), kind=st.sampled_from(sorted(ACTION_KINDS)))
def test_actions_of_every_kind_are_made_of_the_vocabulary(data, kind):
    action = data.draw(actions(RENDERER, kinds=[kind]))
    assert action.kind == kind
    assert all(0 <= token < VOCABULARY for token in action.tokens)
    if kind in ("valid", "malformed", "adversarial_text", "adversarial_tokens"):
        assert action.tokens[-1] in RENDERER.get_stop_sequences()
        assert action.stop_reason == "stop"
    if kind == "truncated":
        assert action.stop_reason == "length"
        assert STOP not in action.tokens
    if kind == "empty":
        assert len(action.tokens) <= 1
    if kind == "huge":
        assert 100 <= len(action.tokens) <= 601
    assert action.completion().tokens == list(action.tokens)


def test_actions_shrink_to_few_tokens():
    assert simplest(actions(RENDERER)).tokens == ()
    assert simplest(actions(RENDERER, kinds=["valid"])).tokens == (ZERO, STOP)
    special = simplest(actions(RENDERER), lambda a: a.tokens[:1] == (STOP,) and len(a.tokens) > 1)
    assert special.kind == "special_tokens"
    assert len(special.tokens) <= 3


@pytest.mark.parametrize("valid", [["left", "right"], [[5], [6, 7]], st.sampled_from(["left"])])
def test_good_actions_are_what_the_user_says(valid):
    listed = ["left"] if isinstance(valid, st.SearchStrategy) else valid
    known = {
        (*(RENDERER.tokenizer.encode(v) if isinstance(v, str) else v), stop)
        for v in listed
        for stop in RENDERER.get_stop_sequences()
    }

    @QUICK
    @given(actions(RENDERER, valid=valid, kinds=["valid"]))
    def all_are_known(action):
        assert action.tokens in known

    all_are_known()


def test_tokens_that_end_with_a_stop_get_no_second_one():
    space = TokenSpace(None, [[0], [7, 8]], 10)
    for tokens, ended in (([4], (4, 0)), ([4, 0], (4, 0)), ([4, 7, 8], (4, 7, 8)), ([], (0,))):
        assert named_action(space, tokens).tokens == ended
    assert space.encode_action([4, 7, 8]) == space.encode_action([4]) == (4,)
    heard = set()

    class Copy(Env):
        async def initial_observation(self):
            return ModelInput.from_ints([4, 0]), [0]

        async def step(self, action):
            heard.add(tuple(action))
            return StepResult(1.0, True, ModelInput.empty(), [0])

    options = {"properties": ["starts"], "max_examples": 3}
    report = check_env(Copy, valid_actions=[[4, 0]], **options)
    assert report.valid_actions["tokens [4]"] > 0
    assert (4, 0) in heard
    assert (4, 0, 0) not in heard


def test_a_vocabulary_may_be_a_number():
    action = simplest(actions(10), lambda action: max(action.tokens, default=0) == 9)
    assert all(token < 10 for token in action.tokens)
    with pytest.raises(RequestError, match="expected a renderer, a tokenizer or the size"):
        actions("tiny")
    with pytest.raises(UnknownNameError, match="Did you mean 'malformed'"):
        actions(10, kinds=["malfromed"])


def test_hard_actions_are_all_different_and_of_the_vocabulary():
    hard = hard_actions(RENDERER)
    assert len(set(hard)) == len(hard) > 40
    assert {action.kind for action in hard} >= {"empty", "truncated", "malformed", "huge"}


@QUICK
@given(messages(tools=["search"]))
def test_conversations_can_be_answered(conversation):
    assert conversation[-1]["role"] in ("user", "tool")
    assert 1 <= len(conversation) <= 7
    assert RENDERER.build_generation_prompt(conversation).length > 0


def test_conversations_shrink_to_one_message():
    assert simplest(messages(max_size=2, system=False, thinking=False)) == [
        {"role": "user", "content": ""}
    ]


@QUICK
@given(tool_calls(["search"], malformed=True))
def test_tool_calls_have_arguments_of_json_or_are_not_parsed(call):
    if isinstance(call, UnparsedToolCall):
        assert call.error
    else:
        assert isinstance(call, ToolCall)
        assert isinstance(json.loads(call.function.arguments), dict)


def test_seeds_shrink_to_zero():
    assert simplest(seeds()) == 0


@QUICK
@given(episodes(RENDERER, max_turns=2))
def test_an_episode_is_a_seed_and_actions(script):
    assert script.seed >= 0
    assert 1 <= len(script.actions) <= 2


@QUICK
@given(groups(RENDERER, 3))
def test_a_script_comes_back_from_its_string(script):
    assert GroupScript.decode(script.encode()) == script
    assert len(script.members) == 3
    assert script.episode(4) == script.episode(1)


def test_some_members_do_the_same_at_other_turns():
    def shifted(script):
        one, two = script.members
        return len(set(one)) > 1 and (*one[1:], one[0]) == two

    quick = settings(max_examples=300, database=None, phases=[Phase.generate])
    assert shifted(find(groups(10, 2, kinds=["valid"]), shifted, settings=quick))


@pytest.mark.parametrize("text", ["", "!", "eJwDAAAAAAE", GroupScript(0, ()).encode()[:-3]])
def test_a_string_that_is_no_script_is_refused(text):
    with pytest.raises(RequestError, match="expected the string that a failed check printed"):
        GroupScript.decode(text)


def test_an_episode_that_goes_on_repeats_its_actions():
    script = EpisodeScript(7, tuple(hard_actions(10)[:3]))
    assert [script.action(turn) for turn in range(6)] == list(script.actions) * 2
    assert script.key(1).env_rng().random() != script.key(0).env_rng().random()


def test_without_hypothesis_it_says_what_to_install():
    program = (
        "import sys\n"
        "sys.modules['hypothesis'] = None\n"
        "import tinker_rl.testing\n"
        "tinker_rl.testing.seeds()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'tinker-rl[testing]'" in done.stderr


@QUICK
@given(groups(RENDERER, 2))
def test_simpler_scripts_get_ever_simpler(script):
    plain = GroupScript(0, ((DrawnAction((STOP,), "stop", "empty"),),) * 2)
    for _ in range(60):
        following = next(simpler_scripts(script, plain), None)
        if following is None:
            break
        assert following != script
        script = following
    assert script == plain


def test_good_actions_are_left_whole_and_who_acts_comes_first():
    plain = GroupScript(0, ((DrawnAction((STOP,), "stop", "empty"),),) * 2)
    good, bad = DrawnAction((7, 8, STOP)), DrawnAction((9, 9, STOP), kind="malformed")
    script = GroupScript(0, (plain.members[0], (good, bad)))
    simpler = list(simpler_scripts(script, plain))
    assert simpler[0] == GroupScript(0, ((good, bad), plain.members[0]))
    acted = [members[1] for members in (script.members for script in simpler[1:])]
    assert ((DrawnAction((7, STOP)), bad)) not in acted
    assert (good, DrawnAction((9, STOP), kind="malformed")) in acted
