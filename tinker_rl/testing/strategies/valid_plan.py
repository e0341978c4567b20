"""Which of the named actions to play next, so that none is forgotten, and no order of two."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

from tinker_rl.testing.strategies.drawn_action import DrawnAction

__all__ = ["ValidPlan"]

_LONGEST = 12
"""Most actions of a planned episode; one that goes on begins again with the first."""
_MOST_ORDERED = 8
"""Most actions of which every order of two is insisted on."""
_TRIES = 8
"""How often an episode is drawn anew if it has been planned before."""
_BEGIN = -1


class ValidPlan:
    """Plans episodes of named actions: each about as often, every two in a row, few of them twice.

    It learns from what was played how long episodes last, and which actions end them: those come
    last.

    Args:
        actions: What a good policy writes.
        max_turns: Turns that an episode has, if that is known; else None.
        rng: Decides between actions that are needed alike.
    """

    def __init__(
        self, actions: Sequence[DrawnAction], max_turns: int | None, rng: random.Random
    ) -> None:
        self._actions = tuple(actions)
        self._max_turns = max_turns
        self._rng = rng
        self._met: Counter[tuple[int, int]] = Counter()
        """How often an action came after another, or at the beginning."""
        self._planned: set[tuple[int, ...]] = set()
        self._open: list[tuple[int, ...]] = []
        """Episodes that were planned, and not yet played."""
        self._played: Counter[int] = Counter()
        self._ended: Counter[tuple[int, int]] = Counter()
        """How often an action ended an episode, by its turn, from 1."""
        self._longest = 0

    @property
    def lacks_orders(self) -> bool:
        """Whether some two of few actions have not been played in a row."""
        every = range(len(self._actions))
        if len(every) > _MOST_ORDERED:
            return False
        going = [one for one in every if not self._is_ending(one)] if self._longest != 1 else []
        return any(not self._met[one, two] for one in (_BEGIN, *going) for two in every)

    def episode(self) -> tuple[DrawnAction, ...]:
        """The actions of one more episode. `note` takes what came of it."""
        drawn = self._drawn()
        for _ in range(_TRIES):
            if drawn not in self._planned:
                break
            drawn = self._drawn()
        self._planned.add(drawn)
        self._open.append(drawn)
        self._met.update(self._orders(drawn))
        return tuple(self._actions[place] for place in drawn)

    def note(self, num_turns: int, *, ended: bool) -> None:
        """Say what came of the first of the episodes that were planned.

        Args:
            num_turns: Actions that were played.
            ended: Whether the last of them ended it.
        """
        planned = self._open.pop(0)
        self._met.subtract(self._orders(planned))
        played = [planned[turn % len(planned)] for turn in range(num_turns)]
        self._met.update(zip([_BEGIN, *played], played, strict=False))
        self._played.update(played)
        self._longest = max(self._longest, num_turns)
        if ended and played:
            self._ended[played[-1], num_turns] += 1

    def _orders(self, planned: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        return zip((_BEGIN, *planned), planned, strict=False)

    def _drawn(self) -> tuple[int, ...]:
        every = range(len(self._actions))
        endings = [place for place in every if self._is_ending(place)]
        going = [place for place in every if place not in endings]
        length = self._length()
        if not endings or not going:
            return self._walk(every, length)
        walk = self._walk(going, self._rng.randrange(length))
        return (*walk, self._following(walk, endings))

    def _length(self) -> int:
        known = self._max_turns or (self._longest if self._played else _LONGEST)
        return min(_LONGEST, max(2, known))

    def _walk(self, places: Sequence[int], length: int) -> tuple[int, ...]:
        walk: tuple[int, ...] = ()
        own: Counter[tuple[int, int]] = Counter()
        for _ in range(length):
            last = walk[-1] if walk else _BEGIN
            following = self._following(walk, places, own)
            own[last, following] += 1
            walk = (*walk, following)
        return walk

    def _following(
        self,
        walk: tuple[int, ...],
        places: Sequence[int],
        own: Counter[tuple[int, int]] | None = None,
    ) -> int:
        """The one that has come least often after the last, and then least often at all."""
        last = walk[-1] if walk else _BEGIN

        def need(place: int) -> tuple[float, ...]:
            met = self._met[last, place] + (own[last, place] if own else 0)
            return met, self._played[place] + walk.count(place), self._rng.random()

        return min(places, key=need)

    def _is_ending(self, place: int) -> bool:
        """Whether it ends most episodes in which it is played, before others are over."""
        early = sum(self._ended[place, turn] for turn in range(1, self._longest))
        return 2 * early > self._played[place]
