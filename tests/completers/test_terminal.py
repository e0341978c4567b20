import threading

import anyio
import pytest

from tinker_rl.completers import TerminalMessageCompleter
from tinker_rl.errors import CompleterError

QUESTION = {"role": "user", "content": "2+2=?"}


class Terminal:
    """A person who types given lines."""

    def __init__(self, *lines):
        self.lines = list(lines)
        self.shown = []
        self.threads = set()

    def read_line(self, prompt):
        self.threads.add(threading.current_thread())
        if not self.lines:
            raise EOFError
        return self.lines.pop(0)


def test_a_person_sees_what_is_new_and_answers(backend):
    terminal = Terminal("4", "6")
    completer = TerminalMessageCompleter(terminal.read_line, terminal.shown.append)

    async def talk():
        first = await completer([QUESTION])
        again = {"role": "user", "content": [{"type": "text", "text": "3+3=?"}]}
        second = await completer([QUESTION, first, again])
        return first["content"], second["content"]

    assert anyio.run(talk, backend=backend) == ("4", "6")
    assert terminal.shown == ["user> 2+2=?", "user> 3+3=?"]
    assert threading.main_thread() not in terminal.threads


def test_a_new_conversation_is_shown_whole(backend):
    terminal = Terminal("4", "5")
    completer = TerminalMessageCompleter(terminal.read_line, terminal.shown.append)

    async def talk():
        await completer([QUESTION])
        await completer([QUESTION])

    anyio.run(talk, backend=backend)
    assert terminal.shown == ["user> 2+2=?"] * 2


def test_the_end_of_the_input_is_an_error_that_says_so(backend):
    completer = TerminalMessageCompleter(Terminal().read_line, print)
    with pytest.raises(CompleterError, match="end of the input"):
        anyio.run(completer, [QUESTION], backend=backend)


def test_a_cancelled_wait_for_a_person_ends_at_once(backend):
    typed = threading.Event()
    completer = TerminalMessageCompleter(lambda _: str(typed.wait(10)), lambda _: None)

    async def talk():
        with anyio.move_on_after(0.05) as scope:
            await completer([QUESTION])
        assert scope.cancelled_caught
        assert not typed.is_set()
        typed.set()

    anyio.run(talk, backend=backend)
