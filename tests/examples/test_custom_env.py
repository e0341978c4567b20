import importlib.util
import sys
from pathlib import Path

import anyio
import pytest

from tinker_rl.completers import ScriptedTokenCompleter

PATH = Path(__file__).parents[2] / "examples" / "custom_env.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("custom_env", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # chz looks a class's module up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_example_can_be_played(example, backend):
    async def play():
        builder = example.LetterDatasetBuilder(
            batch_size=3,
            group_size=2,
            model_name_for_tokenizer="tiny",
            renderer_name="qwen3_instruct",
        )
        train, test = await builder()
        assert test is None
        rewards = []
        for group in train.get_batch(0):
            envs = await group.make_envs()
            assert len(envs) == 2
            for env in envs:
                right = env.word.count(env.letter)
                tokenizer = env.renderer.tokenizer
                for answer in (f"\\boxed{{{right}}}", f"\\boxed{{{right + 1}}}", "many"):
                    act = ScriptedTokenCompleter([tokenizer.encode(answer + "<|im_end|>")])
                    observation, stop = await env.initial_observation()
                    action = await act(observation, stop)
                    rewards.append((await env.step(action.tokens)).reward)
        return rewards

    assert anyio.run(play, backend=backend) == [1.0, 0.0, -0.1] * 6


def test_every_word_is_asked_about_a_letter_that_it_has(example):
    builder = example.LetterDatasetBuilder(
        batch_size=50, group_size=1, model_name_for_tokenizer="tiny", renderer_name="role_colon"
    )
    train, _ = anyio.run(builder)
    envs = [group.env_thunk() for group in train.get_batch(7)]
    assert all(int(env.get_reference_answer()) >= 1 for env in envs)
    assert len({env.get_question() for env in envs}) > 10


def test_the_environment_is_as_short_as_the_readme_says():
    lines = PATH.read_text().split("class LetterEnv")[1].split("@chz")[0].splitlines()
    assert len(lines) <= 25
