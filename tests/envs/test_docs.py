"""The code of docs/environments.md runs as it stands there."""

import re
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import pytest

import tinker_rl.envs
from tinker_rl.completers import ScriptedTokenCompleter
from tinker_rl.policies import EpisodeKey
from tinker_rl.renderers import Renderer, get_text_content
from tinker_rl.rl import RolledOutGroup, RolloutLimits, do_group_rollout
from tinker_rl.types import ModelInput

TEXT = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")
PIECES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
KEY = EpisodeKey(run_seed=0, group=0)


@pytest.fixture(scope="module")
def names():
    """What the whole examples define, given the imports that the page leaves out."""
    found = {name: getattr(tinker_rl.envs, name) for name in tinker_rl.envs.__all__}
    found |= {"dataclass": dataclass, "partial": partial, "time": time, "Renderer": Renderer}
    found |= {"ModelInput": ModelInput, "get_text_content": get_text_content}
    for piece in PIECES:
        if any(f"class {name}(" in piece for name in ("GuessEnv", "CopyEnv", "SlowEnv")):
            exec(compile(piece, "docs/environments.md", "exec"), found)
    return found


def roll_out(builder, completer, limits=None, backend="trio"):
    async def main():
        return await do_group_rollout(builder, completer, KEY, limits or RolloutLimits())

    outcome = anyio.run(main, backend=backend)
    assert isinstance(outcome, RolledOutGroup)
    return outcome


def test_the_conversation_is_played_to_its_end(names, renderer, encode, backend):
    builder = names["GuessGroupBuilder"](renderer, 3)

    def guess(model_input):
        """Halves what is left; the first time it does not end its message."""
        text = renderer.tokenizer.decode(model_input.to_ints())
        low, high = 1, 101
        for number, hint in re.findall(r"(\d+)<\|im_end\|>\n<\|im_start\|>user\n(\w+)", text):
            if hint in ("Higher", "Lower"):
                low, high = (int(number) + 1, high) if hint == "Higher" else (low, int(number))
        return encode(str((low + high) // 2), "<|im_end|>" if "did not end" in text else "")

    outcome = roll_out(builder, ScriptedTokenCompleter(guess), RolloutLimits(max_turns=10))
    assert outcome.group.get_total_rewards() == [pytest.approx(0.9)] * 3
    assert all(trajectory.terminated for trajectory in outcome.group.trajectories_G)


def test_the_copying_task_rewards_copies(names, backend):
    def copy(model_input):
        return model_input.to_ints()

    outcome = roll_out(names["builder"], ScriptedTokenCompleter(copy), backend=backend)
    assert outcome.group.get_total_rewards() == [1.0] * 4
    assert outcome.tags == ("copy",)


def test_slow_code_is_played_in_a_thread(names, backend):
    builder = tinker_rl.envs.ProblemGroupBuilder(partial(names["SlowEnv"], length=2), 10)
    began = time.monotonic()
    outcome = roll_out(builder, ScriptedTokenCompleter(lambda _: [0]), backend=backend)
    assert outcome.group.get_total_rewards() == [0.0] * 10
    assert time.monotonic() - began < 10 * 0.1
