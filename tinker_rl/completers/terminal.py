"""A person at the terminal, in the place of a model."""

from __future__ import annotations

from collections.abc import Callable

import anyio.to_thread

from tinker_rl.completers.types import MessageCompleter
from tinker_rl.errors import CompleterError
from tinker_rl.renderers import Message, format_content_as_string

__all__ = ["TerminalMessageCompleter"]


class TerminalMessageCompleter(MessageCompleter):
    """Shows what was said since the last turn and asks a person for the answer.

    It waits in a worker thread, so other tasks go on. Cancelled, it leaves that thread behind,
    waiting for a line that is then thrown away.
    """

    def __init__(
        self,
        read_line: Callable[[str], str] = input,
        show: Callable[[str], None] = print,
        prompt: str = "you> ",
    ) -> None:
        """Choose the terminal.

        Args:
            read_line: Shows a prompt and returns a line; it may block.
            show: Shows a text.
            prompt: What the person's line begins with.
        """
        self._read_line = read_line
        self._show = show
        self._prompt = prompt
        self._shown: list[Message] = []

    async def __call__(self, messages: list[Message]) -> Message:
        seen = len(self._shown)
        for message in messages[seen:] if messages[:seen] == self._shown else messages:
            self._show(f"{message['role']}> {format_content_as_string(message['content'])}")
        try:
            line = await anyio.to_thread.run_sync(
                self._read_line, self._prompt, abandon_on_cancel=True
            )
        except EOFError as error:
            raise CompleterError(
                "TerminalMessageCompleter: expected a line; got the end of the input. "
                "Run it in a terminal."
            ) from error
        answer = Message(role="assistant", content=line)
        self._shown = [*messages, answer]
        return answer
