"""Transcripts: some groups of every step, once to read and once to load.

`transcripts/step_000012.txt` is for people, `transcripts/step_000012.jsonl` has the same episodes,
one JSON object each, for programs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import Transition
from tinker_rl.rl.advantages import group_advantages
from tinker_rl.rl.failure_counts import describe_failure
from tinker_rl.rl.files import write_text
from tinker_rl.rl.outcomes import DroppedGroup, RolledOutGroup, UnfinishedEpisode
from tinker_rl.types import ModelInput

__all__ = ["TRANSCRIPTS_FOLDER", "Decoder", "transcript", "write_transcripts"]

TRANSCRIPTS_FOLDER = "transcripts"

logger = logging.getLogger(__name__)


class Decoder(Protocol):
    """What is needed of a tokenizer."""

    def decode(self, token_ids: list[int], /) -> str:
        """The text of token ids."""
        ...


def write_transcripts(
    log_dir: Path,
    step: int,
    groups: Sequence[tuple[int, RolledOutGroup | DroppedGroup]],
    tokenizer: Decoder,
) -> None:
    """Write the transcripts of a step, over those of the same step of an earlier start.

    Args:
        groups: Each with its number.
    """
    texts = _Texts(tokenizer)
    records = [record for number, group in groups for record in _records(number, group, texts)]
    path = log_dir / TRANSCRIPTS_FOLDER / f"step_{step:06d}.txt"
    lines = (msgspec.json.encode({"step": step, **record}).decode() for record in records)
    text = "".join(line + "\n" for line in lines)
    write_text(path.with_suffix(".jsonl"), text, survives_power_loss=False)
    pages = "".join(_page(step, record) for record in records)
    write_text(path, pages, survives_power_loss=False)


def transcript(
    step: int | None,
    number: int,
    outcome: RolledOutGroup | DroppedGroup,
    tokenizer: Decoder,
) -> str:
    """A group for people to read, as in the files; `step` is None where it has not trained."""
    records = _records(number, outcome, _Texts(tokenizer))
    return "".join(_page(step, record) for record in records)


class _Texts:
    """What token ids say, each text decoded once: members of a group share their prompt."""

    def __init__(self, tokenizer: Decoder) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[int, ...], str] = {}

    def of(self, token_ids: list[int]) -> str:
        """The text; the ids where some are of no vocabulary, as they may be why it was dropped."""
        key = tuple(token_ids)
        if key not in self._known:
            try:
                self._known[key] = self._tokenizer.decode(token_ids)
            except Exception as error:  # each tokenizer has its own words for it
                logger.debug("Token ids that are no text", exc_info=error)
                self._known[key] = f"token ids {token_ids}"
        return self._known[key]


def _records(
    number: int, outcome: RolledOutGroup | DroppedGroup, texts: _Texts
) -> Iterator[dict[str, Any]]:
    if isinstance(outcome, DroppedGroup):
        yield from _dropped(number, outcome, texts)
        return
    group = outcome.group
    rewards = group.get_total_rewards()
    advantages = group_advantages(rewards)
    places = outcome.members or range(len(group.trajectories_G))
    for member, (place, trajectory) in enumerate(zip(places, group.trajectories_G, strict=True)):
        yield {
            "group": number,
            "member": place,
            "tags": list(outcome.tags),
            "outcome": "truncated" if trajectory.truncated else "completed",
            "stop_reason": trajectory.stop_reason,
            "reward": rewards[member],
            "advantage": float(advantages[member]),
            "final_reward": group.final_rewards_G[member],
            "metrics": group.metrics_G[member],
            "turns": list(_turns(_acts(trajectory.transitions), texts)),
        }


def _dropped(number: int, outcome: DroppedGroup, texts: _Texts) -> Iterator[dict[str, Any]]:
    """The episode that broke; or those that had ended, if the group itself failed."""
    unfinished = outcome.failure.unfinished
    broken = (outcome.member, _acts_of(unfinished) if unfinished else [])
    places = outcome.members or range(len(outcome.trajectories))
    ended = [
        (place, _acts(trajectory.transitions))
        for place, trajectory in zip(places, outcome.trajectories, strict=True)
    ]
    for member, acts in ended or [broken]:
        yield {
            "group": number,
            "member": member,
            "outcome": "dropped",
            "error": describe_failure(outcome.failure),
            "turns": list(_turns(acts, texts)),
        }


_Act: TypeAlias = "tuple[ModelInput, TokensWithLogprobs | None, Transition | None]"
"""What the policy saw, what it did, and the step that it made of it."""


def _acts(transitions: Iterable[Transition]) -> list[_Act]:
    return [(step.ob, step.ac, step) for step in transitions]


def _acts_of(unfinished: UnfinishedEpisode) -> list[_Act]:
    last = (unfinished.observation, unfinished.action, None)
    return [*_acts(unfinished.transitions), last]


def _turns(acts: Iterable[_Act], texts: _Texts) -> Iterator[dict[str, Any]]:
    seen: list[int] = []
    for observed, action, step in acts:
        observation = observed.to_ints()
        sampled = action.tokens if action is not None else []
        extends = bool(seen) and observation[: len(seen)] == seen
        new = observation[len(seen) :] if extends else observation
        yield {
            "observation": texts.of(new),
            "extends_the_last": extends,
            "action": None if action is None else texts.of(sampled),
            "observation_tokens": observed.length,
            "action_tokens": len(sampled),
            "action_stop_reason": action and action.stop_reason,
            "policy_version": action and action.policy_version,
            "reward": step and step.reward,
            "metrics": step.metrics if step else {},
            "logs": step.logs if step else {},
        }
        seen = observation + sampled


def _page(step: int | None, record: dict[str, Any]) -> str:
    """An episode as text."""
    when = "" if step is None else f"step {step}, "
    head = f"==== {when}group {record['group']}, member {record['member']}"
    turns = [line for n, turn in enumerate(record["turns"], start=1) for line in _lines(n, turn)]
    if record["outcome"] == "dropped":
        return "\n".join([f"{head}: DROPPED ====", record["error"], *turns]) + "\n\n"
    title = (
        f"{head}: reward {record['reward']:.3f}, advantage {record['advantage']:+.3f}, "
        f"{record['outcome']} ({record['stop_reason']}) ===="
    )
    return "\n".join([title, *turns]) + "\n\n"


def _lines(number: int, turn: dict[str, Any]) -> Iterator[str]:
    """A turn as text."""
    seen = "new in the observation" if turn["extends_the_last"] else "observation"
    yield f"---- turn {number}, {seen} ----"
    yield turn["observation"]
    if turn["action"] is None:
        yield f"---- turn {number}, no action ----"
        return
    earned = "no answer" if turn["reward"] is None else f"reward {turn['reward']:.3f}"
    yield (
        f"---- turn {number}, action ({turn['action_tokens']} tokens, "
        f"{turn['action_stop_reason']}, version {turn['policy_version']}, {earned}) ----"
    )
    yield turn["action"]
    for name, value in {**turn["metrics"], **turn["logs"]}.items():
        yield f"     {name}: {value}"
