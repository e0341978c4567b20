"""Weights & Biases; its files are in `wandb/` in the run's folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tinker_rl.errors import ConfigError
from tinker_rl.rl.loggers.logger import LoggedRun

__all__ = ["WandbLogger"]


class WandbLogger:
    """Sends a run; every start of it goes on in the same one.

    wandb's own settings hold, as environment variables: `WANDB_MODE=offline`, `WANDB_PROJECT`,
    `WANDB_ENTITY`, `WANDB_API_KEY`. The x axis of every chart is `step`: wandb's own counter cannot
    take an evaluation that is done after the next step.
    """

    def __init__(self) -> None:
        self._run: Any = None

    def start(self, run: LoggedRun) -> bool:
        """Join the run, or make it. Takes seconds, and a minute and a half without a network."""
        import wandb

        is_online = wandb.setup().settings.mode in (None, "online", "shared")
        if is_online and not wandb.login(prompt=False):  # it would ask, and wait, in the terminal
            raise ConfigError(
                "wandb: expected an API key; got none. Run `wandb login`, or set WANDB_API_KEY, or "
                "WANDB_MODE=offline to send the run later."
            )
        self._run = wandb.init(
            id=run.id,
            name=run.id,
            project=os.environ.get("WANDB_PROJECT", run.project),
            dir=str(run.log_dir),
            config=dict(run.config),
            resume="allow" if is_online else None,
            settings=wandb.Settings(console="off", quiet=True, reinit="create_new"),
        )
        self._run.define_metric("*", step_metric="step")
        return False  # a step that was sent cannot be taken back

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand the row to wandb's own process."""
        self._run.log({"step": step, **metrics})

    def finish(self) -> None:
        """Wait until all is sent."""
        self._run.finish()
