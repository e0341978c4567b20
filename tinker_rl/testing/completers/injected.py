"""Which errors are faults that a completer of the kit raised on purpose."""

from __future__ import annotations

__all__ = ["injected", "is_injected"]

_MARK = "_tinker_rl_injected"


def injected(error: BaseException) -> BaseException:
    """The same error, marked as raised on purpose."""
    setattr(error, _MARK, True)
    return error


def is_injected(error: BaseException) -> bool:
    """Whether an error is such a fault, comes of one or, as a group, has one in it."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:  # causes may go round in a circle
            continue
        if getattr(one, _MARK, False):
            return True
        seen.add(id(one))
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions  # pyright: ignore[reportUnknownMemberType]
    return False
