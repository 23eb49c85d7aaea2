"""What the columns of members and of their hosts mean: ``worker3/cpu_percent``, ``host0/ram_used_bytes``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from perfmon_widgets.metrics import Metric, place_label, unit_of
from perfmon_widgets.views.columns import group_of

# What a row is about, by the group of its member.
_SUBJECTS = {"nodes": "all processes that Ray has started on the node"}
_SUBJECT = "the process and its children"

_HELP = {
    "cpu_percent": "CPU time of {subject}, of all that they can use.",
    "ram_used_bytes": "Memory of {subject}; pages that they share count once.",
    "ram_limit_bytes": "The memory limit of {subject}; that of the machine if there is no other.",
    "ram_percent": "Memory of {subject}, as a share of its limit.",
    "ram_peak_bytes": "The most memory of {subject} since the sample before.",
    "read_bytes_per_second": "Read from disks by {subject}.",
    "write_bytes_per_second": "Written to disks by {subject}.",
    "uptime_seconds": "How long the process has been running; it begins anew after a restart.",
    "tasks_running": "Tasks that are being executed.",
    "tasks_ready": "Tasks that wait for a free thread.",
}
_LABELS = {
    "cpu_percent": "CPU",
    "ram_used_bytes": "RAM in use",
    "ram_limit_bytes": "RAM limit",
    "ram_percent": "RAM",
    "ram_peak_bytes": "peak RAM",
    "read_bytes_per_second": "read",
    "write_bytes_per_second": "written",
}


def member_metric(
    place: str, column: str, columns: Collection[str], devices: Mapping[str, str], source: str
) -> Metric:
    """Return the metric of a column of a member or host.

    Args:
        place: where the column is: ``worker3``, ``host0``.
        column: what stands behind the place: ``cpu_percent``, ``gpu0/power_watts``.
        columns: all columns of the place, among which its limit may be.
        devices: what people know a place by, such as ``worker3`` or ``worker3/gpu0``.
        source: where the rows come from.

    Raises ValueError if the column has no usable name.
    """
    name = f"{place}/{column}"
    where, unit, group = name.rpartition("/")[0], unit_of(column), group_of(f"{place}/")
    limit_of = f"{column.removesuffix('used_bytes')}limit_bytes" if column.endswith("used_bytes") else ""
    help_of_member = "" if group == "hosts" else _HELP.get(column, "")
    return Metric(
        name,
        unit,
        group,
        help_of_member.format(subject=_SUBJECTS.get(group, _SUBJECT))
        or f"{column}, as the monitor on {place_label(place)} reads it.",
        limit=100.0 if unit == "percent" else f"{place}/{limit_of}" if limit_of in columns else None,
        source=source,
        device=devices.get(where, ""),
        role="limit" if "limit_" in column else "",
        label=f"{place_label(place)} {_LABELS[column]}" if column in _LABELS else "",
    )
