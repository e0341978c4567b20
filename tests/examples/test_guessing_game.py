import importlib
from pathlib import Path

import pytest

from tinker_rl.testing import cancel_everywhere, run_env_state_machine
from tinker_rl.testing.state_machines.state_machine import EnvStateMachine

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("guessing_game")


def test_the_game_agrees_with_its_model_on_both_loops(example, backend):
    fields = {"backend": backend}
    machine = type("Machine", (example.GuessingGameMachine,), fields)
    assert issubclass(machine, EnvStateMachine)
    run_env_state_machine(machine, max_examples=10)


def test_its_careless_twin_is_found_with_two_guesses(example):
    with pytest.raises(AssertionError, match="no number is left that fits the hints") as raised:
        run_env_state_machine(example.CarelessGameMachine, max_examples=100)
    shown = "\n".join(raised.value.__notes__)
    assert shown.count("state.guess(") == 2
    assert shown.count("  writes  ") == 2
    assert "CarelessGame" in shown


def test_the_group_of_the_example_can_be_cancelled_anywhere(example, backend):
    report = cancel_everywhere(example.make_group, backend=backend)
    assert report.findings == ()
    assert len(report.tried) == len(report.points) >= 2
