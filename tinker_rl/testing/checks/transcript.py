"""A played group for people to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar

from tinker_rl.testing.checks.records import Broken, PlayedEpisode, PlayedGroup
from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.token_space import TokenSpace
from tinker_rl.words import counted

__all__ = ["compared_transcript", "episode_transcript", "group_transcript", "shortened"]

_LONGEST = 320
_MOST_TURNS = 8
_SHORT = 60
_FEW_TURNS = 4

T = TypeVar("T")


def group_transcript(
    group: PlayedGroup, space: TokenSpace, member: int | None = None, *, linked: bool = False
) -> str:
    """The episodes of a group, turn by turn.

    Args:
        group: What was played.
        space: What decodes tokens.
        member: Whose episode is shown; None: all.
        linked: Whether the members depend on each other: then all are shown in any case, in the
            order in which they acted.
    """
    shown = [e for e in group.episodes if member is None or e.member == member]
    lines = [line for episode in shown for line in _episode(episode, space)]
    if linked:
        lines = list(_in_order(group, space))
    if group.rewarded is not None and any(group.rewarded.final_rewards_G):
        lines.append(f"group rewards: {group.rewarded.final_rewards_G}")
    lines += [f"{broken.where}: {_error(broken)}" for broken in group.broken]
    return "\n".join(lines)


def compared_transcript(
    plays: Sequence[tuple[str, PlayedGroup]], space: TokenSpace, member: int
) -> str:
    """A member's episode in two plays of a group, whole and then in a line, with what others did.

    Args:
        plays: Each with the order in which the members acted, in words.
        space: What decodes tokens.
        member: Whose episode is not the same.
    """
    lines: list[str] = []
    for number, (order, group) in enumerate(plays):
        lines.append(f"{order}:" if number == 0 else f"and {order}:")
        for episode in group.episodes:
            if episode.member == member and number == 0:
                lines += [f"  {line}" for line in _episode(episode, space)]
            else:
                lines.append(f"  {_in_a_line(episode, space)}")
        if group.rewarded is not None and any(group.rewarded.final_rewards_G):
            lines.append(f"  group rewards: {group.rewarded.final_rewards_G}")
    return "\n".join(lines)


def _in_a_line(episode: PlayedEpisode, space: TokenSpace) -> str:
    """What a member wrote and earned."""
    shown = episode.turns[:_FEW_TURNS]
    done = [
        f"{shortened(space.decode(turn.action.tokens), _SHORT)} (earns {turn.result.reward:g})"
        for turn in shown
    ]
    if len(episode.turns) > len(shown):
        done.append(f"... {counted(len(episode.turns) - len(shown), 'turn')} more")
    broken = f", breaks: {_error(episode.broken)}" if episode.broken is not None else ""
    return f"member {episode.member} writes {', '.join(done) or 'nothing'}{broken}"


def episode_transcript(episode: PlayedEpisode, space: TokenSpace) -> str:
    """One episode, turn by turn: what the policy saw, what it wrote, what it earned."""
    return "\n".join(_episode(episode, space))


def _episode(episode: PlayedEpisode, space: TokenSpace) -> Iterator[str]:
    yield _header(episode)
    turns, last = _turns(episode, space)
    first, num_left_out, rest = _without_middle(turns)
    yield from chain.from_iterable(first)
    if num_left_out:
        yield f"  ... {counted(num_left_out, 'turn')} more ..."
    yield from chain.from_iterable(rest)
    yield from last


def _in_order(group: PlayedGroup, space: TokenSpace) -> Iterator[str]:
    """The turns of all members as they acted, and then what they wait for."""
    acts: dict[int, Iterator[list[str]]] = {}
    ends: list[tuple[PlayedEpisode, list[str]]] = []
    for episode in group.episodes:
        turns, last = _turns(episode, space)
        is_acting = episode.action is not None
        acts[episode.member] = iter([*turns, last] if is_acting else turns)
        if last and not is_acting:
            ends.append((episode, last))
    acted = [(group.episodes[member], next(acts[member])) for member in group.acted]
    first, num_left_out, rest = _without_middle(acted)
    yield from _headed(first)
    if num_left_out:
        yield f"... {counted(num_left_out, 'turn')} more ..."
    yield from _headed([*rest, *ends])


def _headed(blocks: Sequence[tuple[PlayedEpisode, list[str]]]) -> Iterator[str]:
    """Lines of members, under whose they are."""
    before: PlayedEpisode | None = None
    for episode, lines in blocks:
        if episode is not before:
            yield _header(episode)
        yield from lines
        before = episode


def _header(episode: PlayedEpisode) -> str:
    return f"member {episode.member}, seed {episode.script.seed}"


def _without_middle(items: Sequence[T]) -> tuple[Sequence[T], int, Sequence[T]]:
    """The first and the last of many, and how many come between."""
    num_left_out = max(0, len(items) - _MOST_TURNS)
    half = _MOST_TURNS // 2 if num_left_out else len(items)
    return items[:half], num_left_out, items[half + num_left_out :]


def _turns(episode: PlayedEpisode, space: TokenSpace) -> tuple[list[list[str]], list[str]]:
    """The lines of each turn, and of what came after the last one."""
    seen: list[int] = []
    turns: list[list[str]] = []
    for turn in episode.turns:
        tokens = turn.observation.to_ints()
        turns.append(
            [
                f"  sees    {_text(tokens, seen, space)}",
                f"  writes  {_action(turn.action, space)}",
                f"  earns   {turn.result.reward:g}{_end(turn.result.stop_reason)}",
            ]
        )
        seen = [*tokens, *turn.action.tokens]
    last: list[str] = []
    if episode.action is not None or (episode.end != "ended" and episode.observation.length):
        last.append(f"  sees    {_text(episode.observation.to_ints(), seen, space)}")
    if episode.action is not None:
        last.append(f"  writes  {_action(episode.action, space)}")
    if episode.broken is not None:
        last.append(f"  breaks  {_error(episode.broken)}")
    return turns, last


def _text(tokens: list[int], seen: list[int], space: TokenSpace) -> str:
    if seen and tokens[: len(seen)] == seen:
        return f"... {shortened(space.decode(tokens[len(seen) :]))}"
    return shortened(space.decode(tokens))


def _action(action: DrawnAction, space: TokenSpace) -> str:
    cut = ", cut off" if action.stop_reason == "length" else ""
    return f"{shortened(space.decode(action.tokens))} ({counted(len(action.tokens), 'token')}{cut})"


def _end(stop_reason: object) -> str:
    return "" if stop_reason is None else f", over: {stop_reason}"


def _error(broken: Broken) -> str:
    failure = broken.failure
    return shortened(f"{failure.error_type}: {failure.error}")


def shortened(text: str, longest: int = _LONGEST) -> str:
    """A text without its middle, where it is long."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} [{len(text) - 2 * half} characters more] {text[-half:]}"
