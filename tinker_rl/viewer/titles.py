"""A line that tells one prompt from another: what the user said last."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinker_rl.viewer.tokens import TokenText

__all__ = ["LENGTH", "title_of"]

Array: TypeAlias = npt.NDArray[Any]

LENGTH = 100
"""Characters."""
_MOST_TOKENS = 4096
"""What is looked at of a long prompt: its end."""
_OWN = frozenset({"assistant", "model", "ai", "gpt"})
_ROLES = _OWN | {"system", "developer", "user", "human", "tool", "function", "observation"}


def title_of(prompt: Array, text: TokenText) -> str:
    """The beginning of the last message of a prompt that is not the policy's own.

    Messages lie between special tokens, headed by who speaks, as chat formats have it; of a prompt
    without any, it is the prompt's own beginning.

    Args:
        prompt: Token ids. int64, shape [T].
    """
    tail = prompt[-_MOST_TOKENS:]
    is_special = np.isin(tail, text.special)
    parts = np.split(tail, np.flatnonzero(is_special))
    parts = [part[1:] if place else part for place, part in enumerate(parts)]
    said = last = ""
    role = ""
    for part in parts:
        head, _, body = text.decode(part.tolist()).strip().partition("\n")
        if head.strip().lower() in _ROLES:
            role, words = head.strip().lower(), body.strip()
        else:
            words = f"{head}\n{body}".strip()
        if words:
            last = words
            said = said if role in _OWN else words
    return " ".join((said or last)[: 4 * LENGTH].split())[:LENGTH].rstrip()
