"""A request on its way through the engine, together with the promise of its result."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tinker_rl.errors import EngineClosedError, EngineError, LearnerError, TinkerRLError
from tinker_rl.futures import Promise
from tinker_rl.requests import Request

__all__ = ["Ticket", "closed_error"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Ticket:
    """Whoever holds a ticket owes it a result."""

    request: Request[Any]
    promise: Promise[Any]

    @contextmanager
    def errors(self) -> Generator[None]:
        """Give an error of the block to whoever asked, and go on.

        What is not an error of the request is reported as the engine's, with its cause.
        """
        try:
            yield
        except TinkerRLError as error:
            self.promise.fail(error)
        except Exception as error:
            name = type(self.request).__name__
            kind = LearnerError if hasattr(self.request, "model_id") else EngineError
            _log.exception("%s failed inside the engine", name)
            wrapped = kind(
                f"{name}: the engine failed with {type(error).__name__}: {error}. It goes on "
                "serving; if this is memory, use a smaller batch."
            )
            wrapped.__cause__ = error
            self.promise.fail(wrapped)
        except BaseException:
            self.promise.fail(closed_error(type(self.request).__name__))
            raise


def closed_error(what: str) -> EngineClosedError:
    """The error of a request that the end of its engine left unanswered."""
    return EngineClosedError(
        f"{what}: expected a running engine; got one that was closed before it answered. Create a "
        "new ServiceClient."
    )
