"""What the live page shows of columns whatever their numbers are: sections, figures, rows of tables."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from perfmon_widgets.metrics import Metric
from perfmon_widgets.views.columns import alike, groups, title_of
from perfmon_widgets.views.figures import Figure, section
from perfmon_widgets.views.grid import grid
from perfmon_widgets.views.legend import about, names_of_lines
from perfmon_widgets.views.stragglers import busy_columns

# Names in the description of a picture for those who cannot see it. The table has all of them.
_NAMES = 8
# More names than this above a figure are left out: each stands in the table, next to its colour.
_MAX_NAMES = 16
_LABELS = 9  # of the rows of a map that have room above one another


class Outline(NamedTuple):
    """What depends on the columns alone. It changes when columns are added."""

    metrics: tuple[Metric, ...]
    """All of them."""
    groups: Mapping[str, Sequence[Metric]]
    """The columns of each section, by group."""
    figures: Mapping[str, Sequence[Figure]]
    """The figures of each section, without numbers."""
    busy: Mapping[str, Mapping[str, str]]
    """For each section with many GPUs or the like, the column that says how busy each is."""
    digest: str
    """Differs where another monitor answers, after a restart of the program for example."""

    @property
    def titles(self) -> list[dict[str, Any]]:
        """Group and title of each section, as they are sent."""
        return [{"group": group, "title": title_of(group)} for group in self.groups]

    def of(self, opened: Sequence[str]) -> list[Metric]:
        """The columns of these groups, one group after the other."""
        return [metric for group in opened for metric in self.groups[group]]

    def table(self, group: str) -> dict[str, Any]:
        """The table of a section without its numbers, as it is sent: rows, and those of many GPUs."""
        members = self.groups[group]
        lines = {
            line.name: line for figure in self.figures[group] if not figure.is_map for line in figure.lines
        }
        rows = []
        for metric in members:
            row = {"name": metric.name, "label": metric.label, "about": about(metric)}
            if metric.name in lines:
                row |= {"color": lines[metric.name].color, "dash": lines[metric.name].dash}
            rows.append(row)
        return {"rows": rows, "grid": grid(alike(members), [metric.name for metric in members])}


# To find the figures of a monitor takes as long as to draw them.
@lru_cache(maxsize=4)
def outline(metrics: tuple[Metric, ...]) -> Outline:
    """Return the outline of these columns."""
    members = groups(metrics)
    kept = [(metric.name, metric.group, metric.label, about(metric)) for metric in metrics]
    many = {group: alike(each) for group, each in members.items()}
    return Outline(
        metrics,
        members,
        {group: section(group, metrics) for group in members},
        {group: busy_columns(each) for group, each in many.items() if each},
        hashlib.blake2b(repr(kept).encode(), digest_size=8).hexdigest(),
    )


def frame(figure: Figure) -> dict[str, Any]:
    """Return what is sent of a figure once: how its lines look, their names, the labels of a map's rows."""
    if figure.is_map:
        return {"words": _words(figure), "labels": figure.row_labels(_LABELS)}
    lines = [
        {"color": line.color, "dash": line.dash, "faint": line.faint, "joined": line.joined}
        for line in figure.lines
    ]
    places = {id(line): place for place, line in enumerate(figure.lines)}
    names = [(words, places[id(line)]) for words, line in names_of_lines(figure.lines)]
    return {"words": _words(figure), "lines": lines, "names": names if len(names) <= _MAX_NAMES else []}


def _words(figure: Figure) -> str:
    """The names of the lines for a person who cannot see them."""
    labels = [line.label for line in figure.lines]
    rest = len(labels) - _NAMES
    return ", ".join(labels[:_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def drawn(figures: Sequence[Figure], known: Collection[str]) -> list[Figure]:
    """Return the figures with those lines that have a value, and without figures that have none."""
    shown = (
        figure if all(line.name in known for line in figure.lines) else figure.only(known)
        for figure in figures
    )
    return [figure for figure in shown if figure.lines]
