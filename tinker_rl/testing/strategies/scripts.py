"""Whole episodes written down in advance, as values and as short strings."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator

import msgspec

from tinker_rl.errors import RequestError
from tinker_rl.policies import EpisodeKey
from tinker_rl.testing.strategies.drawn_action import DrawnAction

__all__ = ["EpisodeScript", "GroupScript", "simpler_scripts"]

_VERSION = 1


class EpisodeScript(msgspec.Struct, frozen=True):
    """One episode: what its random numbers depend on, and what the policy does."""

    seed: int
    actions: tuple[DrawnAction, ...]
    """In turn; an episode that goes on begins again with the first."""

    def key(self, member: int = 0) -> EpisodeKey:
        """The key that the random numbers of the episode come from, as in a run."""
        return EpisodeKey(run_seed=self.seed, purpose="check_env", group=0, member=member)

    def action(self, turn: int) -> DrawnAction:
        """What the policy does in a turn."""
        return self.actions[turn % len(self.actions)] if self.actions else DrawnAction(())


class GroupScript(msgspec.Struct, frozen=True):
    """The episodes of a group: one seed, and the actions of each member."""

    seed: int
    members: tuple[tuple[DrawnAction, ...], ...]
    """A group with more members than these begins again with the first."""

    def episode(self, member: int) -> EpisodeScript:
        """What one member does."""
        actions = self.members[member % len(self.members)] if self.members else ()
        return EpisodeScript(self.seed, actions)

    @property
    def size(self) -> tuple[int, ...]:
        """By what scripts are compared: the smaller, the easier to read."""
        actions = [action for member in self.members for action in member]
        tokens = sum(len(action.tokens) for action in actions)
        return len(actions), tokens, self.seed != 0, self.seed

    def encode(self) -> str:
        """A short string that gives the script back."""
        members = [[[list(a.tokens), a.stop_reason, a.kind] for a in m] for m in self.members]
        packed = zlib.compress(msgspec.msgpack.encode([_VERSION, self.seed, members]), 9)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> GroupScript:
        """The script of a string.

        Raises:
            RequestError: if `encode` did not make it, or another version of it did.
        """
        try:
            packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            version, seed, members = msgspec.msgpack.decode(
                zlib.decompress(packed),
                type=tuple[int, int, tuple[tuple[tuple[tuple[int, ...], str, str], ...], ...]],
            )
        except (ValueError, zlib.error) as error:
            raise RequestError(
                f"check_env.replay: expected the string that a failed check printed; got {text!r}. "
                "Copy it whole."
            ) from error
        if version != _VERSION:
            raise RequestError(
                f"check_env.replay: expected a string of version {_VERSION}; got version "
                f"{version}. Run the check anew to get one."
            )
        return cls(seed, tuple(tuple(_action(*a) for a in member) for member in members))


def simpler_scripts(script: GroupScript, plain: GroupScript) -> Iterator[GroupScript]:
    """Scripts that differ from one in a single place, or in the order, and are simpler.

    Args:
        script: The one.
        plain: What the simplest script of the group is.
    """
    if script.seed:
        yield GroupScript(0, script.members)
    others = [place for place, does in enumerate(script.members) if does != plain.members[0]]
    if others and others[0] > 0:  # who does something comes first
        first = script.members[others[0]]
        rest = (*script.members[: others[0]], *script.members[others[0] + 1 :])
        yield GroupScript(script.seed, (first, *rest))
    for place, actions in enumerate(script.members):
        before, after = script.members[:place], script.members[place + 1 :]
        simple = plain.members[place % len(plain.members)]
        if actions == simple:
            continue
        yield GroupScript(script.seed, (*before, simple, *after))
        for shorter in _shorter(actions):
            yield GroupScript(script.seed, (*before, shorter, *after))


def _shorter(actions: tuple[DrawnAction, ...]) -> Iterator[tuple[DrawnAction, ...]]:
    """With one action fewer, or fewer tokens in one that is not good, its end kept."""
    for turn in range(len(actions) if len(actions) > 1 else 0):
        yield (*actions[:turn], *actions[turn + 1 :])
    for turn, action in enumerate(actions):
        if action.kind == "valid":
            continue  # what is left of it would be none
        tokens = action.tokens
        size = max(1, len(tokens) // 4)
        last = len(tokens) - (action.stop_reason == "stop" and len(tokens) > 1)
        for start in range(0, last, size):
            fewer = msgspec.structs.replace(
                action, tokens=(*tokens[:start], *tokens[min(start + size, last) :])
            )
            yield (*actions[:turn], fewer, *actions[turn + 1 :])


def _action(tokens: tuple[int, ...], stop_reason: str, kind: str) -> DrawnAction:
    return msgspec.convert(
        {"tokens": tokens, "stop_reason": stop_reason, "kind": kind}, DrawnAction
    )
