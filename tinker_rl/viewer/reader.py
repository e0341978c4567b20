"""All of a run's folder, as the page takes it, kept up as the run goes on."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tinker_rl.errors import ConfigError
from tinker_rl.rl.journal import JOURNAL_FILE
from tinker_rl.rl.log_dir import CONFIG_FILE, METRICS_FILE
from tinker_rl.rl.timeline import TIMELINE_FILE
from tinker_rl.viewer.facts import (
    RunState,
    configured_at,
    is_run_folder,
    load_config,
    older_journals,
    run_state,
    runs_inside,
    steps_planned,
    updated_at,
)
from tinker_rl.viewer.lines import FollowedLines
from tinker_rl.viewer.metrics import BATCH, MetricRows, is_training_row
from tinker_rl.viewer.notes import notes_of
from tinker_rl.viewer.plain import flat, number, text
from tinker_rl.viewer.run_journal import RunJournal
from tinker_rl.viewer.timeline import SpanTable
from tinker_rl.viewer.tokens import load_token_text
from tinker_rl.words import counted

__all__ = ["PARTS", "Part", "RunReader"]

Part: TypeAlias = Literal["metrics", "evaluations", "episodes", "timeline"]
PARTS: tuple[Part, ...] = ("metrics", "evaluations", "episodes", "timeline")
_MOST_NAMED = 12


class RunReader:
    """A run, read from its folder alone; nothing is written there.

    `poll` reads what was added since the last time. Not for several threads at once.

    Args:
        run: The run's folder, its `journal.bin`, or a journal that was put aside.
    Raises:
        ConfigError: if it is none of these.
    """

    def __init__(self, run: Path) -> None:
        path = run.expanduser()
        is_file = path.is_file()
        self.folder = path.parent if is_file else path
        journal = path if is_file else path / JOURNAL_FILE
        if not is_run_folder(self.folder) or (is_file and path.suffix != ".bin"):
            raise ConfigError(
                f"view: expected a run's folder, with a {METRICS_FILE} or a {JOURNAL_FILE}, or a "
                f"journal that was put aside; got {run}{_which(path)}"
            )
        self._config, self.config_problem = load_config(self.folder)
        tokens, self.tokens_note = load_token_text(self._config.get("model_name"))
        self.journal = RunJournal(journal, tokens)
        self.rows = FollowedLines(self.folder / METRICS_FILE)
        self.spans_file = FollowedLines(self.folder / TIMELINE_FILE)
        self._generation = 0
        self._revisions = dict.fromkeys(PARTS, 0)
        self._forget_rows()
        self._forget_spans()

    @property
    def name(self) -> str:
        """What to call the run."""
        name = self.folder.resolve().name
        put_aside = self.journal.path.name != JOURNAL_FILE
        return text(f"{name}/{self.journal.path.name}" if put_aside else name)

    @property
    def num_voided_rows(self) -> int:
        """Rows of steps that a later start of the run did again."""
        return self._training.num_voided

    @property
    def last_step(self) -> int:
        """The last training step of the metrics; -1 for none."""
        last = self._training.last
        done = number(last.get(BATCH, last.get("step")))
        return -1 if done is None else int(done)

    @property
    def state(self) -> RunState:
        """Whether the run goes on, and if not, how it ended."""
        planned = steps_planned(self._config, self._training.last)
        return run_state(self.folder, self._steps_done, planned, self.spans.last_mark)

    @property
    def has_ended_well(self) -> bool:
        """Whether its last process came to the end of its work."""
        mark = self.spans.last_mark
        return mark is not None and mark.name == "end" and not (mark.facts or {}).get("error")

    @property
    def _steps_done(self) -> int:
        return max(self.journal.num_committed, self.last_step + 1)

    @property
    def unreadable(self) -> dict[str, str]:
        """Files that are there and cannot be read, and why."""
        problems = {
            CONFIG_FILE: self.config_problem,
            METRICS_FILE: self.rows.problem,
            TIMELINE_FILE: self.spans_file.problem,
        }
        return {name: text(why) for name, why in problems.items() if why is not None}

    @property
    def older_journals(self) -> list[Path]:
        """Journals that were put aside before this one, oldest first."""
        return older_journals(self.journal.path)

    # ------------------------------------------------------------------------------ following

    def poll(self) -> bool:
        """Take in what was added since the last time; says whether anything was."""
        found = [self._poll_journal(), self._poll_rows(), self._poll_spans()]
        if any(found):
            self._config, self.config_problem = load_config(self.folder)
        return any(found)

    def close(self) -> None:
        """Give back the files."""
        self.journal.close()
        self.rows.close()
        self.spans_file.close()

    def _poll_journal(self) -> bool:
        before = self.journal.generation
        is_changed = self.journal.poll() or self.journal.generation != before
        self._revisions["episodes"] = self.journal.revision
        return is_changed

    def _poll_rows(self) -> bool:
        new = self.rows.follow()
        if new.is_anew:
            self._forget_rows()
            self._generation += not self.journal.exists  # of a run with one, the journal decides
        is_rl = self.journal.exists or "dataset_builder" in self._config
        for row in new.rows:
            is_training = is_training_row(row, is_rl)
            (self._training if is_training else self._evaluations).add(row)
            self._revisions["metrics" if is_training else "evaluations"] += 1
        return new.is_anew or bool(new.rows)

    def _poll_spans(self) -> bool:
        new = self.spans_file.follow()
        if new.is_anew:
            self._forget_spans()
        for row in new.rows:
            self.spans.add(row)
        self._revisions["timeline"] += len(new.rows)
        return new.is_anew or bool(new.rows)

    def _forget_rows(self) -> None:
        self._training = MetricRows(is_ordered=True)
        self._evaluations = MetricRows(is_ordered=False)
        self._revisions["metrics"] += 1
        self._revisions["evaluations"] += 1

    def _forget_spans(self) -> None:
        self.spans = SpanTable()
        self._revisions["timeline"] += 1

    # -------------------------------------------------------------------------------- the page

    def head(self, run_id: str, left_out: Collection[int] = ()) -> dict[str, Any]:
        """What the page knows of the run before it asks for anything.

        Args:
            run_id: How the page calls the run.
            left_out: Chunks that the page does not have.
        """
        num_episodes, num_dropped = self.journal.table.count()
        return {
            "id": run_id,
            "name": self.name,
            "path": text(self.folder.resolve()),
            "notes": notes_of(self, left_out),
            "unreadable": self.unreadable,
            "config": flat(self._config),
            "facts": self._facts(),
            "generation": self._generation + self.journal.generation,
            "revision": dict(self._revisions),
            "chunks": {str(n): revised for n, revised in self.journal.chunk_revisions().items()},
            "counts": {
                "episodes": num_episodes,
                "groups": len(self.journal.groups),
                "dropped": num_dropped,
                "spans": len(self.spans),
            },
        }

    def revision(self, part: Part) -> int:
        """Grows with each change of a part."""
        return self._revisions[part]

    def part(self, part: Part, left_out: Collection[int] = ()) -> dict[str, Any]:
        """What the page asks for, as it takes it; of episodes, `left_out` are chunks it lacks."""
        if part == "metrics":
            return self._training.columns()
        if part == "evaluations":
            return self._evaluations.columns()
        if part == "timeline":
            return self.spans.columns()
        return self.journal.columns(left_out)

    def training_metric(self, name: str) -> dict[int, float]:
        """A metric of the training steps, by step."""
        columns = self._training.columns()
        values = columns["series"].get(name, [])
        pairs = zip(columns["steps"], values, strict=False)
        return {int(step): value for step, value in pairs if value is not None}

    def _facts(self) -> dict[str, Any]:
        model = self._config.get("model_name")
        mark = self.spans.last_mark
        state = self.state
        reason = mark.facts.get("error") if mark and mark.facts and state == "failed" else None
        return {
            "model": text(model) if model is not None else None,
            "steps_done": self._steps_done,
            "steps_planned": steps_planned(self._config, self._training.last),
            "state": state,
            "reason": reason,
            "started_at": self.spans.started_at or configured_at(self.folder),
            "updated_at": updated_at(self.folder),
        }


def _which(path: Path) -> str:
    """What a path that is no run is instead, and what to name in its place."""
    if inside := runs_inside(path):
        names = " ".join(shlex.quote(str(run)) for run in inside[:_MOST_NAMED])
        more = " ..." if len(inside) > _MOST_NAMED else ""
        return f", which holds {counted(len(inside), 'run')}. Name those to show: {names}{more}"
    is_there = "" if path.exists() else ", which is not there"
    return f"{is_there}. The folder is the run's log_path."
