"""docs/environments.md: tools, two players and judges are as it says there."""

import re
from pathlib import Path
from textwrap import indent

import anyio
import pytest

from tinker_rl.completers import ScriptedTokenCompleter
from tinker_rl.envs import EnvFromMessageEnv, StopReason
from tinker_rl.policies import EpisodeKey
from tinker_rl.renderers import ToolCall, UnparsedToolCall
from tinker_rl.rl import RolloutLimits, do_group_rollout
from tinker_rl.testing import FakeJudge, check_env, is_longer

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
PIECES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def piece_with(text):
    (piece,) = (piece for piece in PIECES if text in piece)
    return piece


def run_piece(text):
    names = {"__name__": __name__}
    exec(compile(piece_with(text), "docs/environments.md", "exec"), names)
    return names


def written(name, arguments):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def test_the_calculator_answers_calls_and_then_the_sum_is_right(renderer, encode, backend):
    env = EnvFromMessageEnv(renderer, run_piece("class AddEnv(")["AddEnv"](17, 25))

    async def play():
        await env.initial_observation()
        texts = [written("add", '{"a": 17, "b": 25}'), written("add", '""'), "42"]
        return [await env.step(encode(text)) for text in texts]

    results = anyio.run(play, backend=backend)
    assert [(result.reward, result.episode_done) for result in results] == [
        (0.0, False),
        (0.0, False),
        (1.0, True),
    ]
    answers = [m["content"] for m in env.message_env.messages if m["role"] == "tool"]
    assert answers == ["42", "error: the arguments are no JSON"]


def test_no_call_of_the_calculator_breaks_it(renderer):
    made = run_piece("class AddEnv(")["AddEnv"]
    report = check_env(
        lambda: EnvFromMessageEnv(renderer, made(17, 25)),
        valid_actions=["42"],
        tools=made.tools,
        max_examples=8,
        limits=RolloutLimits(max_turns=6),
    )
    assert report.valid_returns == (1, 1)


def test_the_fields_of_calls_are_listed():
    table = TEXT.split("### Tools")[1].split("### Two players")[0]
    fields = {"function", *UnparsedToolCall.__struct_fields__, *ToolCall.__struct_fields__}
    fields |= {f"function.{field}" for field in ("name", "arguments")}
    assert {field for field in fields if f"call.{field}" not in table} == {"type"}


def test_the_moves_of_two_players_are_those_of_the_example():
    code = (ROOT / "examples" / "two_players.py").read_text(encoding="utf-8")
    shown = piece_with("self.table.give_up(self.side)").replace("\n\n\n", "\n\n")
    assert indent(shown, " " * 4) in code
    table = TEXT.split("### Two players")[1].split("## Anything else")[0]
    ends = set(StopReason) - {"completed", "tool_stopped", "max_tool_calls"}  # its own
    assert {str(reason) for reason in ends if f"`{reason}`" not in table} == set()


@pytest.mark.parametrize("position_bias", [0.0, 0.5])
def test_answers_that_are_compared_earn_by_their_wins(renderer, encode, backend, position_bias):
    builder = run_piece("class ComparedGroupBuilder(")["ComparedGroupBuilder"](
        "What is tea?", FakeJudge(is_longer, position_bias=position_bias), renderer, num_envs=3
    )
    texts = {"A drink.": 0.0, "A drink of leaves.": 1.0, "": -1.0}
    if position_bias == 0.5:  # the judge says 1 of what comes last, and -0.5 of what comes first
        texts = {"A drink.": 0.0, "A drink of leaves.": 0.75, "": -0.75}

    async def play():
        completer = ScriptedTokenCompleter([encode(text) for text in texts])
        return await do_group_rollout(builder, completer, EpisodeKey(run_seed=0, group=0))

    group = anyio.run(play, backend=backend).group
    decoded = [
        renderer.tokenizer.decode(trajectory.transitions[0].ac.tokens).removesuffix("<|im_end|>")
        for trajectory in group.trajectories_G
    ]
    assert group.final_rewards_G == [texts[text] for text in decoded]


def test_an_answer_that_was_cut_off_loses_to_all(renderer, encode):
    builder = run_piece("class ComparedGroupBuilder(")["ComparedGroupBuilder"](
        "What is tea?", FakeJudge(is_longer), renderer, num_envs=2
    )

    async def play():
        completer = ScriptedTokenCompleter([encode("A"), encode("A long answer", "")])
        return await do_group_rollout(builder, completer, EpisodeKey(run_seed=0, group=0))

    group = anyio.run(play).group
    assert sorted(group.final_rewards_G) == [-1.0, 1.0]
    assert group.trajectories_G[group.final_rewards_G.index(-1.0)].stop_reason == "parse_error"
