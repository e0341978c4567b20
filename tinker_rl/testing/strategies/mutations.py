"""Whole good episodes, wrong in one place."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import msgspec

from tinker_rl.testing.strategies.drawn_action import DrawnAction

__all__ = ["broken_late", "misplaced"]

Episode = tuple[DrawnAction, ...]


def misplaced(
    episodes: Sequence[Episode], valid: Sequence[DrawnAction], rng: random.Random
) -> list[Episode]:
    """The episodes with one action dropped, doubled, cut off or another good one; in any order.

    Args:
        episodes: What a good policy does.
        valid: The actions that it knows.
        rng: Decides the order, and which other action.
    """
    changed = [made for episode in episodes for made in _misplaced(episode, valid, rng)]
    changed = [made for made in dict.fromkeys(changed) if made and made not in episodes]
    rng.shuffle(changed)
    return changed


def _misplaced(
    episode: Episode, valid: Sequence[DrawnAction], rng: random.Random
) -> Iterator[Episode]:
    for turn, action in enumerate(episode):
        before, after = episode[:turn], episode[turn + 1 :]
        yield (*before, *after)
        yield (*before, action, action, *after)
        yield (*before, action)
        yield (*before, _cut_off(action), *after)
        others = [other for other in valid if other != action]
        if others:
            yield (*before, rng.choice(others), *after)


def _cut_off(action: DrawnAction) -> DrawnAction:
    tokens = action.tokens[: max(1, len(action.tokens) - 1)]
    return msgspec.structs.replace(action, tokens=tokens, stop_reason="length", kind="truncated")


def broken_late(
    episodes: Sequence[Episode], hard: Sequence[DrawnAction], rng: random.Random
) -> list[Episode]:
    """The episodes with a hard action in the place of one of theirs, the rest as it was.

    Args:
        episodes: What a good policy does.
        hard: Actions that are known to break things; each is in one episode.
        rng: Decides which comes where.
    """
    places = [(episode, turn) for episode in episodes for turn in range(len(episode))]
    rng.shuffle(places)
    shuffled = rng.sample(list(hard), len(hard))
    return [
        (*episode[:turn], action, *episode[turn + 1 :])
        for action, (episode, turn) in zip(shuffled, places * len(shuffled), strict=False)
    ]
