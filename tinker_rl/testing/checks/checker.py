"""A check under way: cases are played, and the properties looked at."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tinker_rl.testing.checks.case import Case, Finding, Property, Setup
from tinker_rl.testing.checks.records import PlayedGroup
from tinker_rl.testing.checks.report import EnvCheckError, EnvCheckReport
from tinker_rl.testing.checks.search import smallest_failure
from tinker_rl.testing.checks.tally import Tally
from tinker_rl.testing.checks.transcript import compared_transcript, group_transcript
from tinker_rl.testing.extra import st
from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.scripts import GroupScript, simpler_scripts
from tinker_rl.testing.strategies.valid_plan import ValidPlan

__all__ = ["Checker"]

_SIMPLIFICATIONS = 40
"""Most steps in which a case is made simpler, after Hypothesis has made it smaller."""
_MOST_SIMPLER = 600
"""Most cases that are played for that."""
_CALLS_PER_EPISODE = 4
"""Calls of tools that an episode makes, one a turn."""

Episode = tuple[DrawnAction, ...]


class _Failure(msgspec.Struct, frozen=True):
    """A case that breaks a property."""

    rule: Property
    script: GroupScript
    finding: Finding
    transcript: str

    @property
    def size(self) -> tuple[int, ...]:
        """By what failures are compared."""
        return self.script.size


class Checker:
    """Plays cases of one environment, until one breaks a property: that raises EnvCheckError.

    Args:
        setup: What is checked.
        active: The properties to look at.
        skip: Those that are left out, and why.
        tally: Counts what is played.
        explore: Whether to look at other cases each time.
        again: The call that plays a script again, given its string.
    """

    def __init__(
        self,
        setup: Setup,
        active: Mapping[str, Property],
        skip: Mapping[str, str],
        tally: Tally,
        *,
        explore: bool,
        again: Callable[[str], str],
    ) -> None:
        self._setup = setup
        self._explore = explore
        self._again = again
        self.rng = random.Random() if explore else random.Random(0)
        """Decides which cases are looked at."""
        self._tally = tally
        reasons = {name: active[name].skipped(setup) for name in active}
        self._skipped = {
            **{name: why for name, why in reasons.items() if why},
            **skip,
        }
        self._active = [found for name, found in active.items() if not reasons[name]]
        self._often = [found for found in self._active if not found.once]
        self._single = [found for found in self._often if not found.compares]
        self._counts: Counter[str] = Counter()
        self._deadline = time.monotonic() + setup.seconds
        self._is_cut = False

    @property
    def longest(self) -> int:
        """Turns of the longest episode so far."""
        return self._tally.longest

    @property
    def is_cut(self) -> bool:
        """Whether the time is over, and cases were left out."""
        return self._is_cut

    @property
    def plain(self) -> GroupScript:
        """The simplest case: everybody says nothing, and stops."""
        space = self._setup.space
        stop = space.stops[0] if space.stops else ()
        return GroupScript(0, ((DrawnAction(stop, "stop", "empty"),),) * self._setup.size)

    # ----------------------------------------------------------------------------- known cases

    def play_first(self, script: GroupScript) -> None:
        """Check all properties but the last on one case."""
        __tracebackhide__ = True
        self._look(script, [found for found in self._active if not found.last], simplify=False)

    def look_last(self, script: GroupScript) -> None:
        """Check the last properties on one case, which was played before."""
        __tracebackhide__ = True
        case = Case(self._setup, script)
        failure = self._failure(case, [found for found in self._active if found.last])
        if failure is not None:
            raise self._error(failure)

    def play_episodes(self, episodes: Sequence[Episode], *, compare: bool) -> None:
        """Check episodes, as many in a case as a group has members.

        Args:
            episodes: What a member does in each.
            compare: Whether to check properties that take a second play, too.
        """
        __tracebackhide__ = True
        size = self._setup.size
        for start in range(0, len(episodes), size):
            if self._is_late():
                return
            members = tuple(episodes[start : start + size])
            script = GroupScript(self._own_seed(), members)
            self._look(script, self._often if compare else self._single)

    def play_calls(self, calls: Sequence[DrawnAction], most_cases: int) -> None:
        """Check calls of tools, some in each episode.

        Those that an episode did not come to are in a later one.
        """
        __tracebackhide__ = True
        left = deque(calls)
        for _ in range(most_cases):
            if not left or self._is_late():
                return
            sizes = [_CALLS_PER_EPISODE] * self._setup.size
            drawn = [[left.popleft() for _ in range(min(size, len(left)))] for size in sizes]
            members = tuple(tuple(made) for made in drawn if made)
            group = self._look(GroupScript(self._own_seed(), members), self._often)
            for made, episode in zip(members, group.episodes, strict=False):
                left.extendleft(reversed(made[len(episode.turns) :]))

    def play_named(self, plan: ValidPlan, fewest: int, most: int) -> None:
        """Check episodes of named actions.

        Args:
            plan: Says which.
            fewest: Cases.
            most: Cases, while some two actions have not been played in a row.
        """
        __tracebackhide__ = True
        for number in range(most):
            if (number >= fewest and not plan.lacks_orders) or self._is_late():
                return
            members = tuple(plan.episode() for _ in range(self._setup.size))
            group = self._look(GroupScript(self._own_seed(), members), self._often)
            for member in range(len(members)):
                episode = group.episodes[member] if member < len(group.episodes) else None
                num_turns = len(episode.turns) if episode is not None else 0
                plan.note(num_turns, ended=episode is not None and episode.end == "ended")

    # ----------------------------------------------------------------------------- drawn cases

    def search(
        self, scripts: st.SearchStrategy[tuple[GroupScript, bool]], max_examples: int
    ) -> None:
        """Check the properties on many cases.

        Args:
            scripts: Draws them, and whether each is to have a seed of its own.
            max_examples: How many.
        """
        __tracebackhide__ = True

        def examine(case: tuple[GroupScript, bool], best: _Failure | None) -> _Failure | None:
            script, has_own_seed = case
            if self._is_late():
                return None
            if best is not None:  # what is made smaller keeps its random numbers
                return self._examine(GroupScript(best.script.seed, script.members), [best.rule])[0]
            seed = self._own_seed() if has_own_seed else script.seed
            return self._examine(GroupScript(seed, script.members), self._often)[0]

        failure = smallest_failure(
            scripts,
            examine,
            max_examples=max_examples,
            explore=self._explore,
            shrinks=self._is_quick,
        )
        if failure is not None:
            raise self._error(self._simpler(failure))

    def report(self, notes: Sequence[str] = ()) -> EnvCheckReport:
        """What was found well."""
        checked = {found.name: self._counts[found.name] for found in self._active}
        may_sleep = self._tally.runs_in_loop and not self._setup.loop.virtual_time
        late = (
            f"no more cases were played after {self._setup.seconds:g} s. Stub what is slow, or "
            "give more with seconds=..."
            + "; virtual_time=True helps where it waits in the event loop alone"
            * may_sleep
        )
        notes = [*notes, late] if self._is_cut else notes
        return self._tally.report(checked, self._skipped, notes, is_cut=self._is_cut)

    # -------------------------------------------------------------------------------- one case

    def _look(
        self, script: GroupScript, properties: Sequence[Property], *, simplify: bool = True
    ) -> PlayedGroup:
        __tracebackhide__ = True
        failure, group = self._examine(script, properties)
        if failure is not None:
            raise self._error(self._simpler(failure) if simplify else failure)
        return group

    def _examine(
        self, script: GroupScript, properties: Sequence[Property]
    ) -> tuple[_Failure | None, PlayedGroup]:
        case = Case(self._setup, script)
        self._tally.add(case.group)
        return self._failure(case, properties), case.group

    def _failure(self, case: Case, properties: Sequence[Property]) -> _Failure | None:
        """The first of the properties that does not hold."""
        for found in properties:
            self._counts[found.name] += 1
            finding = found.check(case)
            if finding is not None:
                shown = "" if found.last else self._transcript(case, finding)
                return _Failure(found, case.script, finding, shown)
        return None

    def _simpler(self, failure: _Failure) -> _Failure:
        """The same with as little as will do: seed 0, few actions, plain ones in other members."""
        if not self._is_quick(failure):
            return failure
        left = _MOST_SIMPLER
        for _ in range(_SIMPLIFICATIONS):
            found = None
            for script in simpler_scripts(failure.script, self.plain):
                left -= 1
                if left < 0 or self._is_late():
                    return failure
                found, _ = self._examine(script, [failure.rule])
                if found is not None:
                    break
            if found is None:
                break
            failure = found
        return failure

    def _is_quick(self, failure: _Failure) -> bool:
        """Whether it costs no seconds to see it again."""
        return self._setup.loop.virtual_time or failure.rule.name != "answers_in_time"

    def _is_late(self) -> bool:
        """Whether the time of the check is over."""
        self._is_cut = self._is_cut or time.monotonic() > self._deadline
        return self._is_cut

    def _own_seed(self) -> int:
        """The seed of the next case. Hypothesis would draw few: it likes small numbers, and the
        same ones again."""
        return self.rng.randrange(1, 2**31)

    def _transcript(self, case: Case, finding: Finding) -> str:
        space = self._setup.space
        if finding.other is None or finding.member is None:
            linked = self._setup.linked
            return group_transcript(case.group, space, finding.member, linked=linked)
        plays = zip(finding.orders, (case.group, finding.other), strict=True)
        return compared_transcript(list(plays), space, finding.member)

    def _error(self, failure: _Failure) -> EnvCheckError:
        finding = failure.finding
        replay = failure.script.encode()
        return EnvCheckError(
            failure.rule.name,
            failure.rule.claim,
            finding.text,
            finding.location,
            failure.transcript,
            replay,
            self._again(replay),
        )
