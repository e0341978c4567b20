"""Completers that go wrong, and others for tests."""

from tinker_rl.testing.completers.faults import (
    DelayedCompleter,
    DelayedMessageCompleter,
    FailingCompleter,
    FailingMessageCompleter,
    FlakyCompleter,
    FlakyMessageCompleter,
    HangingCompleter,
    HangingMessageCompleter,
)
from tinker_rl.testing.completers.random_completers import (
    NONSENSE_KINDS,
    NonsenseCompleter,
    NonsenseMessageCompleter,
    RandomCompleter,
    RandomMessageCompleter,
)
from tinker_rl.testing.completers.recording import (
    RecordedCall,
    RecordingCompleter,
    RecordingMessageCompleter,
)

__all__ = [
    "NONSENSE_KINDS",
    "DelayedCompleter",
    "DelayedMessageCompleter",
    "FailingCompleter",
    "FailingMessageCompleter",
    "FlakyCompleter",
    "FlakyMessageCompleter",
    "HangingCompleter",
    "HangingMessageCompleter",
    "NonsenseCompleter",
    "NonsenseMessageCompleter",
    "RandomCompleter",
    "RandomMessageCompleter",
    "RecordedCall",
    "RecordingCompleter",
    "RecordingMessageCompleter",
]
