"""Cancelling a group wherever it waits, and looking at what is left."""

from tinker_rl.testing.cancellation.cancel_everywhere import (
    CancellationError,
    CancellationReport,
    cancel_everywhere,
)

__all__ = [
    "CancellationError",
    "CancellationReport",
    "cancel_everywhere",
]
