"""What a check says: a report if all is well, an error if not."""

from __future__ import annotations

import msgspec

from tinker_rl.words import counted

__all__ = ["EnvCheckError", "EnvCheckReport"]

_MOST_ACTIONS = 8
"""Actions of which the report says how often they were played."""


class EnvCheckError(AssertionError):
    """An environment breaks a property.

    Attributes:
        property: Name of the property.
        finding: What was expected, and what came.
        location: `file:line` of the user's code; empty where that is not known.
        transcript: The smallest case, turn by turn; empty where it does not matter what was played.
        replay: What `check_env(builder, replay=...)` takes to play that case again.
        again: That call, with the options that were given.
    """

    def __init__(
        self,
        property: str,
        claim: str,
        finding: str,
        location: str,
        transcript: str,
        replay: str,
        again: str,
    ) -> None:
        at = f"\n  at {location}" if location else ""
        lines = [f"  {line}" for line in transcript.splitlines()]
        shown = "\n".join(["The smallest case that was found:", *lines, ""]) if lines else ""
        super().__init__(
            f"check_env: the property {property!r} does not hold: {claim}.\n"
            f"{finding}{at}\n"
            f"{shown}"
            f"Play it again with: {again}"
        )
        self.property = property
        self.finding = finding
        self.location = location
        self.transcript = transcript
        self.replay = replay
        self.again = again


class EnvCheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and found well."""

    checked: dict[str, int]
    """Properties, with the number of cases that each was checked on."""
    skipped: dict[str, str]
    """Properties that were left out, and why."""
    num_cases: int
    """Scripts that were played."""
    num_episodes: int
    """Episodes of the first play of each."""
    num_turns: int
    """Turns of these."""
    num_ended: int
    """Episodes of these that ended by themselves."""
    returns: tuple[float, float] | None = None
    """Least and greatest return of an episode; None where none came to an end."""
    valid_returns: tuple[float, float] | None = None
    """The same of the episodes whose actions were all valid ones; None where it is not known which
    are."""
    valid_episodes: tuple[int, int] = (0, 0)
    """Episodes of valid actions alone, and how many of them differ."""
    valid_actions: dict[str, int] = {}
    """How often each action that was named was played, in all episodes."""
    longest: int = 0
    """Turns of the longest episode."""
    notes: tuple[str, ...] = ()
    """What an author may want to know of the check itself."""

    def __str__(self) -> str:
        lines = [
            f"{counted(self.num_cases, 'case')}, {counted(self.num_episodes, 'episode')} "
            f"({self.num_ended} ended without a limit), {counted(self.num_turns, 'turn')}"
        ]
        lines += [f"  note: {note}" for note in self.notes]
        if self.returns is not None:
            valid = self.valid_returns
            alone = "" if valid is None else f"; of valid actions alone {_shown(valid)}"
            lines.append(f"returns {_shown(self.returns)}{alone}")
        lines += self._played()
        if self.skipped:
            lines.append("not checked:")
            lines += [f"  {name:20} skipped: {why}" for name, why in self.skipped.items()]
        lines.append("checked:")
        lines += [f"  {name:20} {counted(n, 'case')}" for name, n in self.checked.items()]
        return "\n".join(lines)

    def _played(self) -> list[str]:
        """What the policy did, in a few lines."""
        num_valid, num_different = self.valid_episodes
        lines = [f"longest episode: {counted(self.longest, 'turn')}"]
        if num_valid:
            episodes = counted(num_valid, "episode")
            lines[0] += f"; {episodes} of valid actions alone, {num_different} different"
        if self.valid_actions:
            often = sorted(self.valid_actions.items(), key=lambda item: -item[1])
            shown = [f"{action} {count} x" for action, count in often[:_MOST_ACTIONS]]
            rest = often[_MOST_ACTIONS:]
            if rest:
                never = sum(not count for _, count in rest)
                shown.append(f"and {len(rest)} others, {never} of them never")
            lines.append(f"valid actions: {', '.join(shown)}")
        return lines


def _shown(returns: tuple[float, float]) -> str:
    return f"from {returns[0]:g} to {returns[1]:g}"
