"""The code of docs/environments.md runs as it stands there."""

import json
import re
import time
from functools import partial
from pathlib import Path

import anyio
import pytest

import tinker_rl.envs
from tinker_rl.completers import ScriptedTokenCompleter
from tinker_rl.policies import EpisodeKey
from tinker_rl.rl import RolledOutGroup, RolloutLimits, do_group_rollout

TEXT = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")
PIECES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
KEY = EpisodeKey(run_seed=0, group=0)


def piece_with(text):
    (piece,) = (piece for piece in PIECES if text in piece)
    return piece


def run_piece(text, names):
    exec(compile(piece_with(text), "docs/environments.md", "exec"), names)
    return names


@pytest.fixture(scope="module")
def names():
    """What the examples define, each with its own imports."""
    guess = run_piece("class GuessEnv(", {})
    copy = run_piece("class SlowEnv(", run_piece("class CopyEnv(", {}))
    return guess | copy


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


def test_the_question_about_letters_is_graded(renderer, encode, backend):
    env = run_piece("class LetterEnv(", {})["LetterEnv"]
    builder = tinker_rl.envs.ProblemGroupBuilder(partial(env, "banana", "a", renderer), 2)
    completer = ScriptedTokenCompleter([encode("\\boxed{3}"), encode("\\boxed{4}")])
    rewards = roll_out(builder, completer, backend=backend).group.get_total_rewards()
    assert sorted(rewards) == [0.0, 1.0]  # the members act in any order


def test_the_whole_example_of_a_conversation_trains_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = piece_with("class TwoSums(").replace("batch_size: int = 16", "batch_size: int = 2")
    small = small.replace("max_steps=15", "max_steps=1")
    names = {"__name__": "__main__"}
    exec(compile(small, "docs/environments.md", "exec", dont_inherit=True), names)
    (line,) = (tmp_path / "runs" / "two_sums" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["env/all/turns_per_episode"] == 2
    assert "env/all/right" in json.loads(line)


def test_the_whole_example_rewards_two_right_sums(renderer, encode, backend):
    names = run_piece("class TwoSums(", {"__name__": __name__})
    dataset, _ = anyio.run(names["TwoSumsDatasetBuilder"](), backend=backend)
    assert len(dataset) == 100
    builders = dataset.get_batch(3)
    assert builders[0].numbers == dataset.get_batch(3)[0].numbers
    a, b, c = builders[0].numbers

    def add(model_input):
        is_second = "Now add" in renderer.tokenizer.decode(model_input.to_ints())
        return encode(f"\\boxed{{{a + b + c if is_second else a + b}}}")

    outcome = roll_out(builders[0], ScriptedTokenCompleter(add), backend=backend)
    assert outcome.group.get_total_rewards() == [2.0] * 8
    assert outcome.tags == ("two_sums",)
    assert [len(t.transitions) for t in outcome.group.trajectories_G] == [2] * 8


def test_rows_of_ones_own_are_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text('{"question": "1+1", "answer": "2"}\n')
    run_piece("class Pair(", {"__name__": __name__})
    assert capsys.readouterr().out.endswith(" 1\n")


def test_every_field_of_a_result_and_every_method_of_a_builder_is_listed():
    for kind in (tinker_rl.envs.StepResult, tinker_rl.envs.MessageStepResult):
        table = TEXT.split(f"| field of `{kind.__name__}` |")[1].split("\n\n")[0]
        assert {field for field in kind.__struct_fields__ if f"`{field}" in table} == set(
            kind.__struct_fields__
        )
    for kind in (tinker_rl.envs.EnvGroupBuilder, tinker_rl.envs.RLDataset):
        methods = {name for name in vars(kind) if callable(getattr(kind, name))}
        assert {name for name in methods if f"{name}(" not in TEXT} == set()


def test_slow_code_is_played_in_a_thread(names, backend):
    builder = tinker_rl.envs.ProblemGroupBuilder(partial(names["SlowEnv"], length=2), 10)
    began = time.monotonic()
    outcome = roll_out(builder, ScriptedTokenCompleter(lambda _: [0]), backend=backend)
    assert outcome.group.get_total_rewards() == [0.0] * 10
    assert time.monotonic() - began < 10 * 0.1
