"""Numbers of a step, as recorded and as computed once more: whether they agree, in a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from rich.table import Table
from rich.text import Text

__all__ = [
    "TOLERANCE",
    "Comparison",
    "Verdict",
    "compare_hashes",
    "compare_metrics",
    "compare_numbers",
    "comparison_table",
    "overall",
]

TOLERANCE = 1e-5
"""Greatest difference that counts as rounding: of numbers above 1, relative to the larger one."""

Verdict: TypeAlias = Literal[
    "agrees bit for bit", "agrees to 1e-5", "other rounding", "differs", "not compared"
]

NAMES = (
    "env/all/reward/total",
    "env/all/total_episodes",
    "sampling/tokens",
    "useful_token_fraction",
    "optim/loss",
    "optim/grad_norm",
    "optim/learning_rate",
    "optim/kl_",
    "optim/entropy",
    "optim/ratio_",
    "kl_policy_base",
    "async/staleness_",
    "async/age_",
)
"""What is compared, in this order: whole names, and beginnings that end in `_`, sorted."""

_COLOURS: dict[Verdict, str] = {
    "agrees bit for bit": "green",
    "agrees to 1e-5": "green",
    "other rounding": "yellow",
    "differs": "bold red",
    "not compared": "dim",
}


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One number or hash, twice."""

    name: str
    recorded: float | str | None
    """None: the step did not write it down."""
    recomputed: float | str | None
    verdict: Verdict


def compare_metrics(
    recorded: Mapping[str, Any], recomputed: Mapping[str, float]
) -> list[Comparison]:
    """Compare what both say; a number that was recorded and does not come again differs."""
    return [
        Comparison(
            name=name,
            recorded=recorded.get(name),
            recomputed=recomputed.get(name),
            verdict=compare_numbers(recorded.get(name), recomputed.get(name)),
        )
        for name in _names({*recorded, *recomputed})
    ]


def _names(known: set[str]) -> Iterator[str]:
    for wanted in NAMES:
        if wanted.endswith("_"):
            yield from sorted(name for name in known if name.startswith(wanted))
        elif wanted in known:
            yield wanted


def compare_numbers(recorded: float | None, recomputed: float | None) -> Verdict:
    """The same bits, the same up to rounding, or another number. NaN agrees with NaN."""
    if recorded is None:
        return "not compared"
    if recomputed is None:
        return "differs"
    if recorded == recomputed or (math.isnan(recorded) and math.isnan(recomputed)):
        return "agrees bit for bit"
    scale = max(1.0, abs(recorded), abs(recomputed))
    if math.isfinite(scale) and abs(recorded - recomputed) <= TOLERANCE * scale:
        return "agrees to 1e-5"
    return "differs"


def compare_hashes(
    recorded: str | None, recomputed: str | None, numbers: Sequence[Comparison]
) -> Comparison:
    """Compare hashes of the weights, in the light of the step's numbers.

    A hash cannot tell rounding from another cause. Where the numbers agree no better than to
    rounding, that explains other bits of the weights; where they agree bit for bit, nothing does.
    """
    verdict: Verdict = "differs"
    if recorded is None or recomputed is None:
        verdict = "not compared"
    elif recorded == recomputed:
        verdict = "agrees bit for bit"
    elif overall(numbers) == "agrees to 1e-5":
        verdict = "other rounding"
    return Comparison(name="weight hash", recorded=recorded, recomputed=recomputed, verdict=verdict)


def overall(comparisons: Sequence[Comparison]) -> Verdict:
    """The worst verdict of all; `not compared` only if there is no other."""
    verdicts = {comparison.verdict for comparison in comparisons} - {"not compared"}
    if not verdicts:
        return "not compared"
    if "differs" in verdicts:
        return "differs"
    return "agrees bit for bit" if verdicts == {"agrees bit for bit"} else "agrees to 1e-5"


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """A row for each, with the difference and the verdict."""
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="dim")
    table.add_column("number", no_wrap=True)
    for name in ("recorded", "recomputed", "difference"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("verdict", overflow="fold")
    for row in comparisons:
        table.add_row(
            row.name,
            _shown(row.recorded),
            _shown(row.recomputed),
            _difference(row),
            Text(row.verdict, _COLOURS[row.verdict]),
        )
    return table


def _shown(value: float | str | None) -> str:
    if value is None:
        return "none"
    return value[:12] if isinstance(value, str) else f"{value:.7g}"


def _difference(row: Comparison) -> str:
    old, new = row.recorded, row.recomputed
    if old is None or new is None or isinstance(old, str) or isinstance(new, str):
        return ""
    return "0" if row.verdict == "agrees bit for bit" else f"{new - old:.2e}"
