"""What a user's methods answer, checked, in words that say what to write instead."""

from __future__ import annotations

import inspect
from typing import Any

from tinker_rl.errors import RequestError
from tinker_rl.renderers import ToolSpec

__all__ = ["answer_of", "check_messages", "checked_tools", "named", "over"]


async def answer_of(owner: Any, method: str, /, *args: Any, **options: Any) -> Any:
    """What a coroutine method returns. Raises RequestError if it is not one."""
    answer = getattr(owner, method)(*args, **options)
    if inspect.isawaitable(answer):
        return await answer
    do = "Return the answer instead of yielding it" if inspect.isasyncgen(answer) else "Define it"
    raise RequestError(
        f"{type(owner).__name__}.{method}: expected a coroutine; got {named(answer)}. {do} "
        f"with `async def {method}`."
    )


def check_messages(where: str, messages: Any) -> None:
    """Check that it is a conversation. Raises RequestError naming the first message that is none.

    Args:
        where: Whose conversation it is.
        messages: May be anything.
    """
    if not isinstance(messages, list | tuple):
        raise RequestError(
            f"{where}: expected a list of messages; got {named(messages)}. Give the whole "
            "conversation, such as [{'role': 'user', 'content': 'Hi'}]."
        )
    for place, message in enumerate(messages):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if not (isinstance(message, dict) and "role" in message and "content" in message):
            raise RequestError(
                f"{where}[{place}]: expected a message, a dict with role and content; got "
                f"{_shortened(message)}. Write {{'role': 'user', 'content': ...}}."
            )


def checked_tools(where: str, tools: Any) -> list[ToolSpec] | None:
    """Tools as a renderer takes them; None if there are none.

    Args:
        where: Whose they are.
        tools: May be anything.
    Raises:
        RequestError: naming the first that is none.
    """
    listed: list[Any] = list(tools) if isinstance(tools, list | tuple) else [tools]  # pyright: ignore[reportUnknownArgumentType]
    for tool in listed:
        if not (isinstance(tool, dict) and tool.keys() >= ToolSpec.__required_keys__):
            raise RequestError(
                f"{where}: expected a list of tools for the prompt; got {_shortened(tool)} in it. "
                "Write {'name': ..., 'description': ..., 'parameters': <JSON schema>}, and give "
                "what is something else another name."
            )
    return listed or None


def over(env: Any) -> RequestError:
    """To be raised by an environment that is asked to go on after its end."""
    return RequestError(
        f"{type(env).__name__}.step: expected no action after the end of the episode; got one. "
        "Make a new environment for each episode."
    )


def named(value: Any) -> str:
    """A value by its type."""
    if value is None:
        return "None"
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
