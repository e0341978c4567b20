"""None of the project's own environments breaks a property."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import msgspec
import pytest

from tinker_rl.testing import EnvCheckError

PATH = Path(__file__).parents[3] / "benchmarks" / "env_checks.py"
NAMES = (
    "arithmetic",
    "gsm8k",
    "examples/custom_env",
    "docs/LetterEnv",
    "docs/TwoSums",
    "docs/GuessEnv",
    "docs/AddEnv",
    "docs/ComparedGroupBuilder",
    "docs/CopyEnv",
    "docs/SlowEnv",
    "examples/guessing_game",
    "examples/two_players",
    "examples/tool_env",
)


@pytest.fixture(scope="module")
def env_checks():
    spec = importlib.util.spec_from_file_location("env_checks", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def environments(env_checks):
    return env_checks.project_environments()


def test_all_are_here(environments):
    assert tuple(environments) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_rules(environments, name):
    examples = 2 if name == "docs/SlowEnv" else 3
    report = environments[name].check(max_examples=examples)
    assert report.num_ended > 0
    assert min(report.checked.values()) > 0


def test_rewards_of_larger_groups_follow_their_episodes(environments):
    compared = environments["docs/ComparedGroupBuilder"]
    three = dataclasses.replace(compared.builder, num_envs=3)
    report = msgspec.structs.replace(compared, builder=three).check(max_examples=6)
    assert report.checked["rewards_of_some"] == 1
    assert report.checked["rewards_in_order"] > 3


def test_it_keeps_the_rules_on_asyncio(environments):
    environments["docs/TwoSums"].check(max_examples=3, backend="asyncio")


def test_real_problems_keep_the_rules(env_checks, shared_data):
    environment = env_checks.project_environments(shared_data / "gsm8k")["gsm8k"]
    assert len(environment.builder.env_thunk().question) > 20
    report = environment.check(max_examples=3)
    assert report.notes == ()


def test_a_guessing_game_does_not_end_by_itself(environments):
    game = environments["docs/GuessEnv"]
    with pytest.raises(EnvCheckError, match="expected an episode that ends by itself") as caught:
        game.check(max_examples=2, limits=None)
    assert caught.value.property == "ends"
    assert "turns more ..." in caught.value.transcript
