"""The row of `metrics.jsonl` that a step leaves."""

from __future__ import annotations

from collections.abc import Sequence

from tinker_rl.rl.learner import TrainStepOutput
from tinker_rl.rl.metrics import (
    compute_kl_sample_train,
    compute_ratio_quantiles,
    compute_staleness_metrics,
    compute_trajectory_metrics,
    count_tokens_over_age,
    useful_token_fraction,
)
from tinker_rl.rl.outcomes import DroppedGroup, GroupOutcome, RolledOutGroup

__all__ = ["batch_metrics"]


def batch_metrics(
    outcomes: Sequence[GroupOutcome | None],
    trained: TrainStepOutput | None,
    policy_version: int,
    max_token_age: int | None = None,
) -> dict[str, float]:
    """What a batch tells; what depends on the clock is named `time/...`.

    Args:
        outcomes: Of its groups; None for a number without a group.
        trained: What the learner said; None if there was nothing to train on.
        policy_version: Version of the weights that it trained.
        max_token_age: Age past which a token did not train, as `async/tokens_over_age` then counts;
            None: all did.
    """
    groups = [outcome for outcome in outcomes if isinstance(outcome, RolledOutGroup)]
    dropped = [outcome for outcome in outcomes if isinstance(outcome, DroppedGroup)]
    sequences = trained.sequences if trained else ()
    logprobs = trained.learner_logprobs_D if trained else ()
    num_sampled = sum(outcome.num_sampled_tokens for outcome in [*groups, *dropped])
    num_trained = sum(sequence.num_action_tokens for sequence in sequences)
    return {
        **compute_trajectory_metrics([g.group for g in groups], [g.tags for g in groups]),
        **_failure_metrics(dropped),
        "rollout_errors/cleanups": sum(o.cleanup_error is not None for o in [*groups, *dropped]),
        **(trained.metrics if trained else {}),
        **compute_kl_sample_train(sequences, logprobs),
        **compute_ratio_quantiles(sequences, logprobs),
        **compute_staleness_metrics(sequences, policy_version),
        **_age_metrics(groups, policy_version, max_token_age),
        **_time_metrics([*groups, *dropped]),
        "sampling/tokens": num_sampled,
        "useful_token_fraction": useful_token_fraction(num_trained, num_sampled),
    }


def _failure_metrics(dropped: Sequence[DroppedGroup]) -> dict[str, float]:
    metrics: dict[str, float] = {"rollout_errors/groups_skipped": len(dropped)}
    for outcome in dropped:
        name = f"rollout_errors/{outcome.failure.error_type}"
        metrics[name] = metrics.get(name, 0) + 1
    return metrics


def _age_metrics(
    groups: Sequence[RolledOutGroup], policy_version: int, max_token_age: int | None
) -> dict[str, float]:
    if max_token_age is None:
        return {}
    found = [outcome.group for outcome in groups]
    return {"async/tokens_over_age": count_tokens_over_age(found, policy_version - max_token_age)}


def _time_metrics(outcomes: Sequence[GroupOutcome]) -> dict[str, float]:
    """Where the time of the rollouts went, in seconds, and the share that environments took."""
    if not outcomes:
        return {}
    times = [outcome.times for outcome in outcomes]
    env_seconds = sum(t.env_seconds for t in times)
    episode_seconds = env_seconds + sum(t.sample_seconds for t in times)
    return {
        "time/rollout_mean": sum(t.seconds for t in times) / len(times),
        "time/rollout_max": max(t.seconds for t in times),
        "time/env_fraction": env_seconds / episode_seconds if episode_seconds > 0 else 0.0,
        "time/env_longest_call": max(t.longest_env_seconds for t in times),
    }
