"""Which line of a cell's source names the cell in tables and charts."""

from __future__ import annotations

from collections.abc import Iterator

_IMPORTS = ("import ", "from ")
# Line magics that run the code behind them: such a line is code.
_RUN_CODE = ("%time ", "%timeit ", "%prun ", "%memit ")


def telling_line(source: str) -> str:
    """Return the line that says what the cell does, without the white space around it.

    It is the first line of code that is neither an import nor a magic: ``model.fit(images)`` of a cell that
    begins with ``%%perfmon`` and ``import time``. Comments do not count. A cell without such a line is named
    by its first import, else by its first line. Empty for an empty cell.
    """
    first = first_import = ""
    for line in _statements(source):
        first = first or line
        if line.startswith(("%", "?", "#")) and not line.startswith(_RUN_CODE):
            continue
        if not _only_imports(line):
            return line
        first_import = first_import or line
    return first_import or first


def _statements(source: str) -> Iterator[str]:
    """The lines that are not blank, without those that continue an import."""
    until = ""  # how the last line of an import ends: with a parenthesis, or without a backslash
    for line in source.splitlines():
        text = line.partition("#")[0].strip()
        if until:
            goes_on = not text.endswith(")") if until == ")" else text.endswith("\\")
            until = until if goes_on else ""
            continue
        if line.strip():
            yield line.strip()
        if text.startswith(_IMPORTS):
            until = ")" if text.count("(") > text.count(")") else "\\" if text.endswith("\\") else ""


def _only_imports(line: str) -> bool:
    """Whether every statement of the line imports something: ``import time; time.sleep(1)`` does more."""
    statements = line.partition("#")[0].split(";")
    return all(each.lstrip().startswith(_IMPORTS) for each in statements if each.strip())
