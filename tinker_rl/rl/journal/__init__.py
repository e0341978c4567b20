"""The journal of a run: finished groups and committed steps, in a file that a kill leaves whole."""

from tinker_rl.rl.journal.codec import GroupHead, decode, encode
from tinker_rl.rl.journal.compare import without_times
from tinker_rl.rl.journal.file import JOURNAL_FILE, Journal
from tinker_rl.rl.journal.frames import Torn
from tinker_rl.rl.journal.records import (
    CommitRecord,
    EvaluationRecord,
    FailureRecord,
    GroupRecord,
    Record,
    ReferenceLogprobs,
    StartRecord,
    TrainedMember,
    TrainedRecord,
    TrainingOptions,
)
from tinker_rl.rl.journal.repair import Cut, cut_journal

__all__ = [
    "JOURNAL_FILE",
    "CommitRecord",
    "Cut",
    "EvaluationRecord",
    "FailureRecord",
    "GroupHead",
    "GroupRecord",
    "Journal",
    "Record",
    "ReferenceLogprobs",
    "StartRecord",
    "Torn",
    "TrainedMember",
    "TrainedRecord",
    "TrainingOptions",
    "cut_journal",
    "decode",
    "encode",
    "without_times",
]
