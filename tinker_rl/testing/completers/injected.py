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
    if getattr(error, _MARK, False):
        return True
    if isinstance(error, BaseExceptionGroup) and any(map(is_injected, error.exceptions)):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and is_injected(cause)
