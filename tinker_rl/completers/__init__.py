"""Completers: whoever continues a prompt, or answers a conversation."""

from tinker_rl.completers.sampling import Sampler, TinkerMessageCompleter, TinkerTokenCompleter
from tinker_rl.completers.scripted import ScriptedMessageCompleter, ScriptedTokenCompleter
from tinker_rl.completers.terminal import TerminalMessageCompleter
from tinker_rl.completers.types import (
    MessageCompleter,
    StopCondition,
    TokenCompleter,
    TokensWithLogprobs,
)

__all__ = [
    "MessageCompleter",
    "Sampler",
    "ScriptedMessageCompleter",
    "ScriptedTokenCompleter",
    "StopCondition",
    "TerminalMessageCompleter",
    "TinkerMessageCompleter",
    "TinkerTokenCompleter",
    "TokenCompleter",
    "TokensWithLogprobs",
]
