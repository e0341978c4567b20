"""Transcripts: some groups of every step, once to read and once to load.

`transcripts/step_000012.txt` is for people, `transcripts/step_000012.jsonl` has the same episodes,
one JSON object each, for programs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tinker_rl.envs import Trajectory, Transition
from tinker_rl.rl.advantages import group_advantages
from tinker_rl.rl.error_budget import describe_failure
from tinker_rl.rl.files import write_text
from tinker_rl.rl.outcomes import DroppedGroup, RolledOutGroup
from tinker_rl.types import ModelInput

__all__ = ["TRANSCRIPTS_FOLDER", "Decoder", "transcript", "write_transcripts"]

TRANSCRIPTS_FOLDER = "transcripts"


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
    records = [record for number, group in groups for record in _records(number, group, tokenizer)]
    path = log_dir / TRANSCRIPTS_FOLDER / f"step_{step:06d}.txt"
    lines = (msgspec.json.encode({"step": step, **record}).decode() for record in records)
    write_text(path.with_suffix(".jsonl"), "".join(line + "\n" for line in lines))
    write_text(path, "".join(_page(step, record) for record in records))


def transcript(
    step: int | None,
    number: int,
    outcome: RolledOutGroup | DroppedGroup,
    tokenizer: Decoder,
) -> str:
    """A group for people to read, as in the files; `step` is None where it has not trained."""
    return "".join(_page(step, record) for record in _records(number, outcome, tokenizer))


def _records(
    number: int, outcome: RolledOutGroup | DroppedGroup, tokenizer: Decoder
) -> Iterator[dict[str, Any]]:
    if isinstance(outcome, DroppedGroup):
        failure = describe_failure(outcome.failure)
        yield {"group": number, "member": outcome.member, "outcome": "dropped", "error": failure}
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
            "turns": list(_turns(trajectory, tokenizer)),
        }


def _turns(trajectory: Trajectory, tokenizer: Decoder) -> Iterator[dict[str, Any]]:
    seen: list[int] = []
    for step in trajectory.transitions:
        observation = step.ob.to_ints()
        extends = bool(seen) and observation[: len(seen)] == seen
        new = observation[len(seen) :] if extends else observation
        yield {
            "observation": tokenizer.decode(new),
            "extends_the_last": extends,
            "action": tokenizer.decode(step.ac.tokens),
            **_facts(step, step.ob),
        }
        seen = observation + step.ac.tokens


def _facts(step: Transition, observation: ModelInput) -> dict[str, Any]:
    return {
        "observation_tokens": observation.length,
        "action_tokens": len(step.ac.tokens),
        "action_stop_reason": step.ac.stop_reason,
        "policy_version": step.ac.policy_version,
        "reward": step.reward,
        "metrics": step.metrics,
        "logs": step.logs,
    }


def _page(step: int | None, record: dict[str, Any]) -> str:
    """An episode as text."""
    when = "" if step is None else f"step {step}, "
    head = f"==== {when}group {record['group']}, member {record['member']}"
    if record["outcome"] == "dropped":
        return f"{head}: DROPPED ====\n{record['error']}\n\n"
    lines = [
        f"{head}: reward {record['reward']:.3f}, advantage {record['advantage']:+.3f}, "
        f"{record['outcome']} ({record['stop_reason']}) ===="
    ]
    for number, turn in enumerate(record["turns"], start=1):
        seen = "new in the observation" if turn["extends_the_last"] else "observation"
        lines += [
            f"---- turn {number}, {seen} ----",
            turn["observation"],
            f"---- turn {number}, action ({turn['action_tokens']} tokens, "
            f"{turn['action_stop_reason']}, version {turn['policy_version']}, "
            f"reward {turn['reward']:.3f}) ----",
            turn["action"],
        ]
        details = {**turn["metrics"], **turn["logs"]}
        lines += [f"     {name}: {value}" for name, value in details.items()]
    return "\n".join(lines) + "\n\n"
