"""What is earned, and what is reported of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from tinker_rl.envs import Metrics, StopReason
from tinker_rl.testing.checks.case import Case, Finding, Setup
from tinker_rl.testing.checks.properties.calls import broken_steps
from tinker_rl.testing.checks.properties.locating import of_broken, of_builder, of_episode
from tinker_rl.testing.checks.records import PlayedEpisode
from tinker_rl.testing.checks.transcript import shortened

__all__ = ["logs", "metrics", "no_range", "rewards_finite", "rewards_in_range"]

_ADDRESS = re.compile(r"<[^<>]*\bat 0x[0-9a-fA-F]{6,}[^<>]*>")
_ROUNDING = 1e-9
_LONGEST_NAMES = 120
_BY_THEMSELVES = (StopReason.COMPLETED, StopReason.TOOL_STOPPED)


def rewards_finite(case: Case) -> Finding | None:
    """Rewards are finite numbers."""
    for episode, broken in broken_steps(case, "rewards_finite"):
        return of_broken(broken, episode.member)
    return None


def rewards_in_range(case: Case) -> Finding | None:
    """The return of an episode lies in the range that was claimed."""
    claimed = case.setup.claims.reward_range
    if claimed is None:
        return None
    for episode in case.group.episodes:
        if episode.broken is not None or not episode.turns:
            continue
        earned = case.group.earned(episode)
        if not claimed[0] - _ROUNDING <= earned <= claimed[1] + _ROUNDING:
            return of_episode(
                episode,
                f"expected a return from {claimed[0]} to {claimed[1]} (reward_range); got "
                f"{earned:g}. Look at how the reward is put together.",
            )
    return None


def no_range(setup: Setup) -> str:
    """Why `rewards_in_range` is left out."""
    return "" if setup.claims.reward_range is not None else "no reward_range was given"


def metrics(case: Case) -> Finding | None:
    """Metrics are numbers, and episodes that end alike report the same ones.

    Those that a limit or a message that cannot be read cut short may not have come to all of them.
    """
    for episode, broken in broken_steps(case, "metrics"):
        return of_broken(broken, episode.member)
    first: dict[str, PlayedEpisode] = {}
    for episode in case.group.episodes:
        for turn in episode.turns:
            wrong = _not_finite(turn.result.metrics)
            if wrong:
                return of_episode(episode, wrong)
        reason = episode.turns[-1].result.stop_reason if episode.end == "ended" else None
        if reason not in _BY_THEMSELVES:
            continue
        same = first.setdefault(str(reason), episode)
        if _keys(same) != _keys(episode):
            return of_episode(
                episode,
                "expected the metrics of every episode that ends alike to have the same names; got "
                f"{_names(_keys(same))} of member {same.member} and {_names(_keys(episode))} of "
                f"member {episode.member}. A metric is averaged over the steps that report it: "
                "report 0 where it does not apply, and put texts into logs.",
            )
    rewarded = case.group.rewarded
    reported = rewarded.metrics_G if rewarded else []
    for member, values in enumerate(reported):
        wrong = _not_finite(values) or _other_names(reported[0], values, member)
        if wrong:
            return of_builder(case.group, wrong, "compute_group_rewards")
    return None


def logs(case: Case) -> Finding | None:
    """Logs are text and numbers that say something to a reader."""
    for episode, broken in broken_steps(case, "logs"):
        return of_broken(broken, episode.member)
    for episode in case.group.episodes:
        for turn in episode.turns:
            for name, value in turn.result.logs.items():
                found = _ADDRESS.search(value) if isinstance(value, str) else None
                if found:
                    shown = re.sub(r" at 0x[0-9a-fA-F]+", "", found[0])  # another each time
                    return of_episode(
                        episode,
                        f"expected logs of text and numbers; got {name!r}: {shown!r}, an object "
                        "that does not say what it holds. Log its text.",
                    )
    return None


def _keys(episode: PlayedEpisode) -> set[str]:
    return {name for turn in episode.turns for name in turn.result.metrics}


def _not_finite(values: Metrics) -> str:
    for name, value in values.items():
        if not math.isfinite(value):
            return (
                f"expected finite metrics; got {name!r}: {value}, with which every mean of it is "
                "the same. Leave it out where it has no value."
            )
    return ""


def _other_names(first: Metrics, values: Metrics, member: int) -> str:
    if values.keys() == first.keys():
        return ""
    return (
        "expected metrics of the same names for every episode of the group; got "
        f"{_names(first)} for member 0 and {_names(values)} for member {member}. Report 0 where "
        "one does not apply."
    )


def _names(keys: Iterable[str]) -> str:
    return shortened(str(sorted(keys)), _LONGEST_NAMES) if keys else "none"
