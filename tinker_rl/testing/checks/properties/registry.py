"""The properties, in the order in which they are looked at: what breaks the first breaks others."""

from __future__ import annotations

from tinker_rl.testing.checks.case import Property
from tinker_rl.testing.checks.properties import (
    answers,
    builders,
    calls,
    comparisons,
    endings,
    group_order,
    observations,
    rewards,
)

__all__ = ["PROPERTIES"]

_ALL = (
    Property(
        "makes_envs",
        "make_envs gives at least one Env",
        builders.makes_envs,
    ),
    Property(
        "answers_in_time",
        "no call takes longer than max_step_seconds",
        calls.answers_in_time,
    ),
    Property(
        "leaves_nothing_open",
        "task groups and cancel scopes are left by the end of the episode",
        calls.leaves_nothing_open,
    ),
    Property(
        "fresh_envs",
        "make_envs gives new environments at each call, as many each time, none of them twice",
        builders.fresh_envs,
        once=True,
    ),
    Property("starts", "initial_observation does not raise", calls.starts),
    Property(
        "observations",
        "an observation to act on is a ModelInput with at least one token, and comes with a stop "
        "condition",
        observations.observations,
    ),
    Property(
        "vocabulary", "tokens of observations are inside the vocabulary", observations.vocabulary
    ),
    Property(
        "stop_conditions",
        "a stop condition is a list, not empty, of strings or of ids of the vocabulary, not mixed",
        observations.stop_conditions,
    ),
    Property(
        "context",
        "an observation leaves room for an action within context_window",
        observations.context,
        observations.no_context,
    ),
    Property(
        "answers_any_action",
        "step does not raise, whatever the policy wrote",
        calls.answers_any_action,
    ),
    Property("step_results", "step gives a StepResult whose fields agree", calls.step_results),
    Property("rewards_finite", "rewards of steps are finite numbers", rewards.rewards_finite),
    Property(
        "metrics",
        "metrics are finite numbers, and episodes that end alike report the same ones",
        rewards.metrics,
    ),
    Property("logs", "logs are text and numbers that say something", rewards.logs),
    Property(
        "group_rewards",
        "compute_group_rewards gives a finite reward and metrics for each episode, in order",
        builders.group_rewards,
    ),
    Property(
        "rewards_of_some",
        "compute_group_rewards goes by the episodes that are given, also where one is left out",
        group_order.rewards_of_some,
        group_order.not_of_some,
        once=True,
    ),
    Property(
        "rewards_in_range",
        "the return of an episode lies in reward_range",
        rewards.rewards_in_range,
        rewards.no_range,
    ),
    Property("cleanup", "cleanup does not raise at the end of a group", builders.cleanup),
    Property(
        "cleanup_early",
        "cleanup does not raise where make_envs failed, or nothing was played",
        builders.cleanup_early,
        once=True,
        last=True,
    ),
    Property(
        "ends",
        "an episode ends within max_turns; by itself, where no turns are declared",
        endings.ends,
    ),
    Property("nothing_after_end", "step after the end raises", endings.nothing_after_end),
    Property(
        "deterministic",
        "the same seed and actions give the same episode",
        comparisons.deterministic,
        comparisons.not_deterministic,
        compares=True,
    ),
    Property(
        "isolated_members",
        "members do not disturb each other: in turn or one after the other, the same episodes",
        comparisons.isolated_members,
        comparisons.not_comparable,
        compares=True,
    ),
    Property(
        "rewards_in_order",
        "rewards of the group are in the order of its episodes",
        group_order.rewards_in_order,
        group_order.not_in_order,
        compares=True,
    ),
    Property(
        "extends",
        "an observation begins with the last one and the action, or rewrites_history says not",
        observations.extends,
    ),
    Property(
        "reference_answer",
        "a problem grades its own reference answer right, in one of the usual ways to write it",
        answers.reference_answer,
        answers.no_reference,
        once=True,
        last=True,
    ),
    Property(
        "pickles",
        "a builder that holds no client pickles, and the copy makes equal environments",
        builders.pickles,
        builders.unpicklable,
        once=True,
        last=True,
    ),
)

PROPERTIES: dict[str, Property] = {found.name: found for found in _ALL}
"""By name."""
