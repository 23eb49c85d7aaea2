"""``summary`` and ``by_span`` of a history or of a log that was read back: their public home."""

from perfmon_widgets.views.report import by_span, summary

__all__ = ["by_span", "summary"]
