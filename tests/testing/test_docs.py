"""docs/testing.md: its code runs as it stands there, and its tables are complete."""

import inspect
import re
import runpy
import sys
import types
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tinker_rl.testing import ACTION_KINDS, EnvCheckError, check_env
from tinker_rl.testing.checks.properties import PROPERTIES

TEXT = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
PIECES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def piece_with(text):
    (piece,) = (piece for piece in PIECES if text in piece)
    return piece


@pytest.fixture(scope="module")
def names():
    """What the example of check_env defines; the check is the test's."""
    names = {"__name__": "docs_testing"}
    code = piece_with("class PartsEnv").replace("\ncheck_env(builder)\n", "\n")
    exec(compile(code, "docs/testing.md", "exec", dont_inherit=True), names)
    return names


def shown_after(piece):
    """What the page prints after a piece of code."""
    _, _, rest = TEXT.partition(piece)
    return re.search(r"```text\nEnvCheckError: (.*?)```", rest, flags=re.DOTALL)[1]


def printed(error):
    """The error as the page shows it: of a file of the user's, without the long string."""
    said = re.sub(r'replay="[^"]*"', 'replay="..."', str(error))
    return said.replace("docs/testing.md:", "my_env.py:")


def test_the_example_is_found_wrong_as_it_says(names, monkeypatch):
    module = types.ModuleType("docs_testing")
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, "docs_testing", module)
    with pytest.raises(EnvCheckError) as caught:
        check_env(names["builder"])
    assert printed(caught.value).split() == shown_after(piece_with("class PartsEnv")).split()


def test_the_example_of_a_tool_is_found_wrong_as_it_says():
    piece = piece_with("class Notebook")
    code = compile(piece, "docs/testing.md", "exec", dont_inherit=True)
    with pytest.raises(EnvCheckError) as caught:
        exec(code, {"__name__": "docs_testing"})
    assert printed(caught.value).split() == shown_after(piece).split()


def test_a_test_of_one_line_is_a_test(names):
    code = compile(piece_with("test_parts = "), "docs/testing.md", "exec", dont_inherit=True)
    exec(code, names)
    with pytest.raises(EnvCheckError):
        names["test_parts"]()


def test_a_strategy_is_used_as_it_says(tmp_path):
    file = tmp_path / "piece.py"  # hypothesis reads the code of its tests
    file.write_text(piece_with("import messages"))
    test = runpy.run_path(str(file))["test_the_longest_message_is_found"]
    settings(max_examples=10, suppress_health_check=list(HealthCheck), deadline=None)(test)()


def test_the_tables_have_every_property_kind_and_option():
    for rule in PROPERTIES.values():
        assert f"| `{rule.name}` | {rule.claim} |" in TEXT
    for kind in ACTION_KINDS:
        assert f"| `{kind}` |" in TEXT
    options = set(inspect.signature(check_env).parameters) - {"builder"}
    assert {option for option in options if f"{option}=" not in TEXT} == set()
