"""Mutation-style: every broken environment is found, by the property that names what is wrong."""

import importlib
from pathlib import Path

import pytest

from tinker_rl.testing import EnvCheckError, check_env

HERE = Path(__file__).parent
BROKEN = sorted(path.stem for path in (HERE / "broken").glob("*.py") if path.stem != "base")


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the folder, under a name that pickle finds again."""
    monkeypatch.syspath_prepend(str(HERE))
    return lambda name: importlib.import_module(f"broken.{name}")


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found_and_what_is_mended_passes(load, name):
    module = load(name)
    options = {"max_examples": 10, **getattr(module, "OPTIONS", {})}
    with pytest.raises(EnvCheckError) as caught:
        check_env(module.broken, **options)
    error = caught.value
    assert error.property == module.PROPERTY, error
    assert getattr(module, "SAYS", "") in error.finding
    assert f'replay="{error.replay}"' in str(error)
    file, _, line = error.location.rpartition(":")
    assert Path(file).name in (f"{name}.py", "base.py"), error
    assert int(line) > 0
    if getattr(module, "REPLAYS", True):
        with pytest.raises(EnvCheckError) as again:
            check_env(module.broken, replay=error.replay, **options)
        assert again.value.property == error.property
    check_env(module.mended, **{**options, "max_examples": 2})
