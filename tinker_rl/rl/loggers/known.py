"""The loggers that have a name, and whether they are installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec

from tinker_rl.rl.loggers.logger import Logger

__all__ = ["logger_problems", "make_loggers"]

_PACKAGES: dict[str, str] = {
    "tensorboard": "tensorboardX",
    "wandb": "wandb",
    "trackio": "trackio",
}
"""What each needs; the extra to install has the logger's own name."""

_CLASSES: dict[str, str] = {
    "tensorboard": "TensorBoardLogger",
    "wandb": "WandbLogger",
    "trackio": "TrackioLogger",
}


def logger_problems(loggers: Sequence[object]) -> Iterator[str]:
    """What is wrong with the option `loggers`: unknown names, and packages that are missing."""
    for logger in loggers:
        if isinstance(logger, str):
            if logger not in _PACKAGES:
                yield (
                    f"loggers: expected names of {', '.join(_PACKAGES)}; got {logger!r}. Change it."
                )
            elif find_spec(_PACKAGES[logger]) is None:
                yield (
                    f"loggers: expected the package {_PACKAGES[logger]} for {logger!r}; got an "
                    f"environment without it. Install it: pip install 'tinker-rl[{logger}]'."
                )
        elif not isinstance(logger, Logger):
            yield (
                f"loggers: expected names, or objects with start, log and finish; got {logger!r}. "
                "Give it these methods (tinker_rl.rl.Logger)."
            )
    doubled = sorted(_twice(loggers))
    if doubled:
        yield f"loggers: expected each name once; got {', '.join(doubled)} twice. Leave one out."


def _twice(loggers: Sequence[object]) -> set[str]:
    names = [logger for logger in loggers if isinstance(logger, str)]
    return {name for name in names if names.count(name) > 1}


def make_loggers(loggers: Sequence[str | Logger]) -> dict[str, Logger]:
    """The loggers by the name that tells them apart in messages and in the run's folder.

    The packages themselves, which take seconds to import, are imported by `start`.
    """
    made: dict[str, Logger] = {}
    for logger in loggers:
        name = logger if isinstance(logger, str) else type(logger).__qualname__
        number = 2
        while name in made:
            name = f"{name.partition(' ')[0]} {number}"
            number += 1
        made[name] = _known(logger) if isinstance(logger, str) else logger
    return made


def _known(name: str) -> Logger:
    module = import_module(f"tinker_rl.rl.loggers.{name}")
    return getattr(module, _CLASSES[name])()
