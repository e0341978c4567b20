"""docs/testing.md, cancellation, time and state machines: its code runs and finds what it says."""

import linecache
import re
import sys
import types
from pathlib import Path

import pytest
from hypothesis import Phase
from hypothesis import strategies as st

from tinker_rl.envs import EnvFromMessageEnv, load_renderer
from tinker_rl.testing import (
    CancellationError,
    EnvStateMachine,
    cancel_everywhere,
    machine_settings,
    run_env_state_machine,
    turn,
)
from tinker_rl.testing import completers as faulty

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
TEXT = PAGE.read_text(encoding="utf-8")
PIECES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def shown(start):
    """The output that the page shows for an error."""
    return re.search(rf"```text\n{start}(.*?)```", TEXT, flags=re.DOTALL)[1]


@pytest.fixture
def run_piece(monkeypatch):
    """Runs the piece that has a text in it, as the file my_env.py, after earlier pieces."""
    module = types.ModuleType("my_env")
    monkeypatch.setitem(sys.modules, "my_env", module)

    def run(text, leave_out=""):
        (code,) = (piece for piece in PIECES if text in piece)
        linecache.cache["my_env.py"] = (
            len(code),
            None,
            code.splitlines(keepends=True),
            "my_env.py",
        )
        code = code.replace(leave_out, "")
        exec(compile(code, "my_env.py", "exec", dont_inherit=True), vars(module))
        return vars(module)

    yield run
    linecache.cache.pop("my_env.py", None)


def test_the_sandbox_that_is_lost_is_found_as_it_says(run_piece):
    names = run_piece("class SandboxEnv", "\ncancel_everywhere(SandboxBuilder)\n")
    with pytest.raises(CancellationError) as raised:
        cancel_everywhere(names["SandboxBuilder"])
    said = str(raised.value).replace("(builder, at", "(SandboxBuilder, at")
    assert said.split() == shown("CancellationError: ").split()


def test_async_with_is_right_as_it_says(run_piece):
    (code,) = (piece for piece in PIECES if "class SandboxEnv" in piece)
    wrong = """        await self.sandboxes.acquire()
        await anyio.sleep(10)  # the work
        self.sandboxes.release()
"""
    right = """        async with self.sandboxes:
            await anyio.sleep(10)  # the work
"""
    assert wrong in code
    names = {"__name__": "my_env"}
    exec(compile(code.replace(wrong, right), "my_env.py", "exec", dont_inherit=True), names)
    assert cancel_everywhere(names["SandboxBuilder"]).findings == ()


def test_virtual_time_is_as_it_says(run_piece):
    run_piece("class SandboxEnv", "\ncancel_everywhere(SandboxBuilder)\n")
    run_piece("slow = DelayedCompleter")
    run_piece("judge = FakeJudge")


def test_the_countdown_is_found_wrong_as_it_says(run_piece):
    names = run_piece("class Countdown")
    with pytest.raises(AssertionError) as raised:
        run_env_state_machine(names["CountdownMachine"], max_examples=10, max_steps=8)
    notes = "\n".join(raised.value.__notes__)
    first, *lines = shown("AssertionError: ").strip().splitlines()
    assert "'-1' == '0'" in first or "self.shown()" in first
    for line in lines:
        assert line == "..." or line in notes.splitlines(), line
    names["TestCountdown"].settings = machine_settings(max_examples=5)


def test_a_conversation_may_stand_in_its_adapter_as_it_says(run_piece):
    names = run_piece("class Countdown")

    class Wrapped(names["CountdownMachine"]):
        def make_env(self):
            return EnvFromMessageEnv(load_renderer("tiny", "qwen3_instruct"), super().make_env())

    with pytest.raises(AssertionError) as raised:
        run_env_state_machine(Wrapped, 10, 8, phases=[Phase.generate])
    assert raised.traceback[-1].name == "take"  # where it is compared with the model


def test_an_environment_of_another_page_is_played_as_it_stands():
    page = PAGE.with_name("environments.md").read_text(encoding="utf-8")
    (code,) = (
        piece
        for piece in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
        if "class GuessEnv" in piece
    )
    names = {"__name__": "docs_environments"}
    exec(compile(code, "environments.md", "exec", dont_inherit=True), names)

    class Machine(EnvStateMachine):
        make_env = staticmethod(names["GuessEnv"])

        @turn(number=st.integers(1, 100))
        def guess(self, number):
            self.act(str(number))

    run_env_state_machine(Machine, max_examples=5, max_steps=10)


def test_a_group_is_played_as_it_says(run_piece):
    run_piece("class SandboxEnv", "\ncancel_everywhere(SandboxBuilder)\n")
    run_piece("class Countdown")
    machine = run_piece("class TwoSandboxes")["TwoSandboxes"]
    with pytest.raises(AssertionError, match="expected an error after the end"):
        run_env_state_machine(machine, max_examples=5, max_steps=6)


def test_every_faulty_completer_is_in_the_table():
    named = {
        name for name in faulty.__all__ if name.endswith("Completer") and "Message" not in name
    }
    for name in named:
        assert f"| `{name}(" in TEXT
