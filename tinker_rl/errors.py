"""The errors of tinker_rl: one root, and a child only where a caller would act differently.

Messages follow one form: where, what was expected, what came, what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

__all__ = [
    "CheckpointError",
    "CompleterError",
    "ConfigError",
    "DataError",
    "EngineClosedError",
    "EngineError",
    "EnvError",
    "JournalError",
    "KLLimitError",
    "LearnerError",
    "PromptTooLongError",
    "RequestError",
    "SamplerError",
    "ShapeError",
    "TinkerRLError",
    "UnknownNameError",
    "UnsupportedError",
    "WeightSyncError",
    "choices",
]


class TinkerRLError(Exception):
    """Root of every error that tinker_rl raises on purpose."""


class RequestError(TinkerRLError, ValueError):
    """A request that its caller must change: the engine is well and goes on serving.

    Over the wire this is the error category `user`.
    """


class ShapeError(RequestError):
    """A tensor or a list whose shape or length breaks the rule that the message names."""


class UnknownNameError(RequestError, LookupError):
    """A name (model, loss, dataset, renderer, checkpoint...) that nobody registered."""


class UnsupportedError(RequestError):
    """Something that the Tinker API has and this engine refuses, rather than ignores."""


class PromptTooLongError(RequestError):
    """A prompt that leaves no room for an answer in the model's context."""


class ConfigError(RequestError):
    """An option or a combination of options that cannot be run."""


class CheckpointError(RequestError):
    """A checkpoint that is missing, invalid, foreign or damaged."""


class DataError(TinkerRLError, ValueError):
    """A data source that is missing or malformed; the message names the file and the line."""


class JournalError(TinkerRLError, ValueError):
    """A run's journal that is damaged, or a record that contradicts it."""


class EngineError(TinkerRLError, RuntimeError):
    """A fault of the engine itself, not of the request. Over the wire: category `server`."""


class EngineClosedError(EngineError):
    """The engine was closed before, or while, it handled the request."""


class LearnerError(EngineError):
    """The learner failed inside torch, transformers or peft."""


class SamplerError(EngineError):
    """The sampler's engine could not be kept alive, or gave no answer in time."""


class WeightSyncError(EngineError):
    """Published weights are not those that the sampler has; nothing was sampled from them.

    Attributes:
        version: What the sampler knows the weights by.
        difference: Greatest absolute difference of a probe's logprobs, learner against sampler;
            None when it did not come to that.
    """

    def __init__(self, message: str, *, version: str = "", difference: float | None = None) -> None:
        super().__init__(message)
        self.version = version
        self.difference = difference

    def __reduce__(self) -> Any:
        return _weight_sync_error, (str(self), self.version, self.difference)


def _weight_sync_error(message: str, version: str, difference: float | None) -> WeightSyncError:
    return WeightSyncError(message, version=version, difference=difference)


class KLLimitError(TinkerRLError, RuntimeError):
    """The learner's distribution drifted too far from the one that is sampled from.

    Attributes:
        step: The step at which the run is to stop.
        value: Its `optim/kl_sample_train_v2`, in nats.
        limit: Greatest value allowed.
    """

    def __init__(self, message: str, *, step: int, value: float, limit: float) -> None:
        super().__init__(message)
        self.step = step
        self.value = value
        self.limit = limit


class EnvError(TinkerRLError, RuntimeError):
    """An environment raised; the original error is the cause."""


class CompleterError(TinkerRLError, RuntimeError):
    """Sampling an action failed; the original error is the cause."""


def choices(name: str, known: Iterable[str]) -> str:
    """The tail of an error about an unknown `name`: what was near, and all there is."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{hint} Known: {', '.join(names) or 'none'}."
