"""What a Jupyter kernel, or a command, died of: the verdict, in words, from its last samples."""

from __future__ import annotations

import html
import math
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from perfmon_widgets.clocks import time
from perfmon_widgets.views.gauges import share_held
from perfmon_widgets.views.local_time import format_clock, format_time, local
from perfmon_widgets.views.text import format_change, format_duration, format_used

if TYPE_CHECKING:
    import pandas as pd

CERTAIN, LIKELY, UNLIKELY = "certain", "likely", "unlikely"
"""The verdicts: how sure it is that the process was killed because memory ran out."""

# From this share of the limit on, in percent, memory was nearly full. A program that takes memory from many
# places at once is killed some percent below the limit that the last sample saw.
_NEARLY_FULL = 90.0
# A rise of the machine's count of OOM kills may be about another program, unless memory was this full.
_FULL_ENOUGH = 75.0
# Growth is looked for in this many seconds before the end, and reported if it is at least this share of the
# limit.
_RECENT, _NOTABLE = 60.0, 0.05


class Cell(NamedTuple):
    """The cell that was running."""

    number: int
    """Its execution count: ``14`` for ``In [14]``."""
    source: str
    """Its first meaningful line."""
    start: float
    """When it started, in Unix seconds (UTC)."""

    def __str__(self) -> str:
        return f"cell [{self.number}] {self.source}"


class Evidence(NamedTuple):
    """The facts from which the verdict is made."""

    used: float
    """Memory in use in the last sample, in bytes."""
    limit: float
    percent: float
    """The largest share of a memory limit that the last ten seconds of samples saw."""
    grown: float
    """By how many bytes memory has grown at the end."""
    within: float
    """In how many seconds it has."""
    rise: float
    """By how much the count of OOM kills has risen since; NaN if it cannot be read."""
    of_machine: bool
    """Whether that count is the machine's."""
    exit_status: int | None
    """What the parent of the process was given: negative for a signal; None if unknown."""

    @classmethod
    def of(
        cls,
        times: Sequence[float],
        series: Mapping[str, Sequence[float]],
        rise: float,
        *,
        of_machine: bool,
        exit_status: int | None = None,
    ) -> Evidence:
        """Return the facts from the last rows: times in Unix seconds, and the values by column."""
        used, limit = series.get("ram_used_bytes", ()), series.get("ram_limit_bytes", ())
        last = [number for number, at in enumerate(times) if at >= times[-1] - 10.0]
        shares = [
            values[number]
            for values in (_shares_held(series), series.get("host_ram_percent", ()))
            if values
            for number in last
            if math.isfinite(values[number])
        ]
        grown, within = _growth(times, used)
        return cls(
            used[-1] if used else math.nan,
            limit[-1] if limit else math.nan,
            max(shares, default=math.nan),
            grown,
            within,
            rise,
            of_machine,
            exit_status,
        )


def _shares_held(series: Mapping[str, Sequence[float]]) -> Sequence[float]:
    """Return how much of the memory limit is in use in each row, in percent, without file cache if known."""
    shares, used = series.get("ram_percent", ()), series.get("ram_used_bytes", ())
    held = series.get("ram_unreclaimable_bytes", ())
    if not len(shares) == len(used) == len(held):
        return shares
    return [*map(share_held, shares, used, held)]


@dataclass(frozen=True)
class Death:
    """What a process died of; as text, as HTML and, with ``history``, as a DataFrame."""

    time: float
    """Unix seconds (UTC) of the last sample. The process died after it, before another could be stored."""
    cell: Cell | None
    """The cell that was running; None if none was."""
    verdict: str
    """Whether memory ran out: ``certain`` (the OS kernel counted the kill), ``likely`` or ``unlikely``."""
    evidence: str
    """The facts, and what follows from them, as one sentence without its subject."""
    columns: Sequence[tuple[str, str, str]] = field(repr=False)
    """Name, unit and label of each column of the last samples."""
    times: Sequence[float] = field(repr=False)
    """Unix seconds (UTC) of each of the last samples."""
    series: Mapping[str, Sequence[float]] = field(repr=False)
    """The values of the last samples, by column."""

    @property
    def history(self) -> pd.DataFrame:
        """The last samples: index ``time`` (UTC), one float64 column per metric; a new copy each time."""
        import pandas as pd  # noqa: PLC0415 - a Jupyter server reads the rest, without pandas

        index = pd.to_datetime([round(at * 1e6) for at in self.times], unit="us", utc=True).rename("time")
        frame: pd.DataFrame = pd.DataFrame(dict(self.series), index=index, dtype=float)
        for name, unit, label in self.columns:
            frame.attrs[name] = {"unit": unit, "label": label}
        return frame

    def __str__(self) -> str:
        where = "" if self.cell is None else f" in cell [{self.cell.number}] `{self.cell.source}`"
        return f"The previous kernel died at {_clock(self.time)}{where}: {self.evidence}."

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        """Print the sentence where IPython shows this without HTML."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        where = ""
        if self.cell is not None:
            where = f" in cell [{self.cell.number}] <code>{html.escape(self.cell.source)}</code>"
        start = f"<b>The previous kernel died at {_clock(self.time)}</b>"
        return f"<p>{start}{where}: {html.escape(self.evidence)}.</p>"


def judge(
    evidence: Evidence,
    cell: Cell | None,
    columns: Sequence[tuple[str, str, str]],
    times: Sequence[float],
    series: Mapping[str, Sequence[float]],
) -> Death:
    """Return the death with its verdict."""
    verdict, reason = verdict_of(evidence)
    facts = [*_memory(evidence, verdict), reason]
    return Death(times[-1], cell, verdict, "; ".join(facts), columns, times, series)


def verdict_of(evidence: Evidence) -> tuple[str, str]:
    """Return the verdict, and the reason for it in words."""
    ended = _ended_by(evidence.exit_status)
    killed = evidence.exit_status in (None, -signal.SIGKILL)  # OOM kills send this signal, and no other
    if killed and evidence.rise > 0:
        if not evidence.of_machine or evidence.percent >= _FULL_ENOUGH:
            return CERTAIN, "the OS kernel's count of OOM kills rose: killed for want of memory"
        return LIKELY, "the machine's count of OOM kills rose: probably killed for want of memory"
    if killed and evidence.percent >= _NEARLY_FULL:
        return LIKELY, "memory was nearly full: probably killed for want of memory"
    counted = "no OOM kill was counted" if evidence.rise <= 0 else "memory was not nearly full"
    return UNLIKELY, f"{counted}: {ended}"


def _ended_by(exit_status: int | None) -> str:
    if exit_status is None:
        return (
            "a signal or a crash in compiled code ended it, and the log of the Jupyter server may say which"
        )
    if exit_status >= 0:
        return f"it ended by itself with exit code {exit_status}"
    try:
        name = signal.Signals(-exit_status).name
    except ValueError:
        name = "a signal"
    crash = -exit_status in (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
    return f"{'compiled code crashed' if crash else 'somebody killed it'} ({name}, signal {-exit_status})"


def _memory(evidence: Evidence, verdict: str) -> list[str]:
    """Return how full memory was in the last sample, and how fast it grew, in words."""
    if not math.isfinite(evidence.used):
        return []
    words = f"RAM {format_used(evidence.used, evidence.limit, 'bytes')}"
    growth = ""
    if evidence.grown >= _NOTABLE * evidence.limit:
        growth = f"{format_change(evidence.grown, 'bytes')} in {format_duration(evidence.within)}"
    if verdict == CERTAIN and evidence.percent < _FULL_ENOUGH:
        bracket = f" ({growth})" if growth else ""
        return [f"{words} in the last sample{bracket}, and full before the next one"]
    return [f"{words}, {growth}" if growth else words]


def _growth(times: Sequence[float], used: Sequence[float]) -> tuple[float, float]:
    """Return by how many bytes memory has grown up to the last sample, and in how many seconds.

    It is counted from the newest of the lowest samples of the last minute.
    """
    recent = [
        (value, at)
        for at, value in zip(times, used, strict=False)
        if at >= times[-1] - _RECENT and math.isfinite(value)
    ]
    if not recent:
        return 0.0, 0.0
    last, end = recent[-1]
    lowest = min(value for value, _ in recent)
    # Of all samples that are as low as the lowest, but for a little: growth began after the last of them.
    began = max(at for value, at in recent if value <= lowest + 0.02 * (last - lowest))
    return last - lowest, end - began


def _clock(at: float) -> str:
    """Return a time of day; with the date unless it is today's."""
    is_today = local(at).date() == local(time.time()).date()
    return format_clock(at) if is_today else format_time(at)
