"""Options of the hosted service that make no sense, or are not there yet, on one's own machine."""

from __future__ import annotations

from typing import Any

from tinker_rl.errors import UnsupportedError

__all__ = ["refuse_optimizer", "refuse_project", "refuse_stability_info", "refuse_token"]


def refuse_project(where: str, project_id: object) -> None:
    """Raise UnsupportedError when a project is given."""
    if project_id is not None:
        raise UnsupportedError(
            f"{where}: expected no project, since there are none here; got {project_id!r}. Leave "
            "it out; every run of the store is listed."
        )


def refuse_token(where: str, weights_access_token: object) -> None:
    """Raise UnsupportedError when another user's weights are asked for."""
    if weights_access_token is not None:
        raise UnsupportedError(
            f"{where}: expected no weights_access_token; got one. Everything in the store is your "
            "own: leave it out."
        )


def refuse_optimizer(where: str, optimizer: Any) -> None:
    """Raise UnsupportedError for an optimiser other than AdamW."""
    kind = optimizer.get("type") if isinstance(optimizer, dict) else getattr(optimizer, "type", "")
    if optimizer is not None and kind != "adamw":
        raise UnsupportedError(
            f"{where}: expected the optimizer to be AdamW; got {optimizer!r}. Leave it out."
        )


def refuse_stability_info(record_stability_info: bool) -> None:
    """Raise UnsupportedError when sampling is to record what `stable_reinforce` needs."""
    if record_stability_info:
        raise UnsupportedError(
            "record_stability_info: it serves the loss 'stable_reinforce', which is not published "
            "and so not supported here. Leave it False, and use 'ppo' or 'cispo'."
        )
