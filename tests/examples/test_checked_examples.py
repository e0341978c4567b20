"""The worked examples of checks: each fault is found, and is gone from the mended twin."""

import importlib.util
import sys
from pathlib import Path

import pytest

from tinker_rl.testing import EnvCheckError

EXAMPLES = Path(__file__).parents[2] / "examples"
FOUND = {
    "broken_bracket": ("SumEnv", "rewards_in_range", "expected a return from -0.1 to 1.0"),
    "shared_list": ("AnimalsEnv", "isolated_members", "They share and change"),
    "move_after_end": ("NimEnv", "nothing_after_end", "got StepResult with reward"),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_fault_is_found_and_the_mended_twin_passes(name, monkeypatch):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # pickle looks for classes there
    spec.loader.exec_module(module)
    env, rule, text = FOUND[name]
    with pytest.raises(EnvCheckError) as caught:
        module.check(getattr(module, env))
    assert caught.value.property == rule
    assert text in caught.value.finding
    assert caught.value.location.startswith(f"{EXAMPLES / name}.py:")
    assert len(caught.value.transcript.splitlines()) <= 16
    report = module.check(getattr(module, f"Mended{env}"))
    assert report.checked[rule] > 20
