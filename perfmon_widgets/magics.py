"""``%perfmon`` and ``%%perfmon``, in a Jupyter kernel and in IPython in a terminal."""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.error import TryNext, UsageError
from IPython.core.inputtransformer2 import cell_magic as to_cell_magic
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from perfmon_widgets.core.shared import default_monitor
from perfmon_widgets.jupyter.cells import ends, executing
from perfmon_widgets.jupyter.kernel import is_jupyter_kernel
from perfmon_widgets.jupyter.measurement import Measurement
from perfmon_widgets.magic_actions import ACTIONS, Kept, Line, check_arguments

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from perfmon_widgets.core.monitor import PerformanceMonitor


class _Measuring(NamedTuple):
    """A measurement that is in progress."""

    cell: Any
    """IPython's ``ExecutionInfo`` of the cell; None if it was begun outside one."""
    measurement: Measurement
    output: str
    """The name for its rows; empty for none."""


@magics_class
class PerfmonMagics(Magics):
    """The two magics of one shell, and the measurements that are in progress in it."""

    shell: Any  # IPython's own type may be None and lacks the attributes that it adds later

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._kept = Kept()
        self._measuring: list[_Measuring] = []

    @magic_arguments()
    @argument(
        "action",
        nargs="?",
        default="panel",
        choices=list(ACTIONS),
        help="By default panel. " + " ".join(f"{action.name}: {action.help}" for action in ACTIONS.values()),
    )
    @argument("path", nargs="?", help="The file of the log; by default it is named after date and time.")
    @argument("--interval", type=float, metavar="SECONDS", help="Time between samples; at first 5.")
    @argument("--window", type=float, metavar="SECONDS", help="How long samples are kept; at first 600.")
    @argument("--dock", action="store_true", help="Show the panel beside the notebook, in JupyterLab.")
    @argument("--off", action="store_true", help="End the log, or the memory guard.")
    @argument("-h", "--help", action="store_true", help="Print this text.")
    @argument("-o", "--output", metavar="NAME", help="Assign the result to this variable.")
    @line_magic("perfmon")  # type: ignore[arg-type]
    def perfmon(self, line: str) -> None:
        """Watch what this notebook uses: GPU, CPU, memory and disk.

        Every form is about one monitor: the one that the panels of this Jupyter kernel share if it runs, else
        the running one that was started last, else the shared one. The first form that needs samples starts
        it; it goes on while cells run. To measure a single cell, see %%perfmon?

        Examples::

            %perfmon
            %perfmon --dock
            %perfmon start --interval 1 -o monitor
            %perfmon summary
            %perfmon why
            %perfmon cells -o costs
            %perfmon log run.csv
            %perfmon guard
            %perfmon serve
        """
        given = vars(_parsed(self.perfmon, line, "%perfmon"))
        if given.pop("help"):
            print(self.perfmon.__doc__.removeprefix("::\n\n"))
            return
        action, output = ACTIONS[given.pop("action")], _checked(given.pop("output"))
        check_arguments(action, given)
        monitor = default_monitor()
        _set(monitor, given["interval"], given["window"])
        path = _unquoted(given["path"])
        switches = given["dock"], given["off"]
        result = action.run(Line(monitor, path, *switches, output, self.shell.user_ns, self._kept))
        if output:
            self.shell.user_ns[output] = result

    @magic_arguments("%perfmon")
    @argument(
        "--interval",
        type=float,
        metavar="SECONDS",
        help="Time between samples while the cell runs; by default 0.2, or the monitor's if that is less.",
    )
    @argument("-o", "--output", metavar="NAME", help="Assign the samples, a DataFrame, to this variable.")
    @cell_magic("perfmon")  # type: ignore[arg-type]
    def measured_cell(self, line: str, cell: str) -> None:
        """Run a cell with samples at a finer interval, then show what it cost.

        It shows wall time, CPU time, the peak of memory, mean and peak of each GPU, and the bytes read from
        disks and written to them. The numbers are those of this process and its children, but GPUs count as
        a whole. If no monitor is running, one runs during the cell.

        The cell behaves as it does without the magic: it shows its last value, may use await, and raises.

        Examples::

            %%perfmon
            model.fit(images, digits)

            %%perfmon --interval 0.05 -o rows
            model.fit(images, digits)
        """
        # Reached only through run_cell_magic(). A cell that begins with %%perfmon is rewritten by `unwrapped`
        # and reaches `measure`; so does this one.
        self.shell.run_cell(f"%%perfmon {line}\n{cell}").raise_error()

    def measure(self, line: str) -> None:
        """Measure from now to the end of the cell that is being executed."""
        options = _parsed(self.measured_cell, self.shell.var_expand(line), "%%perfmon")
        output = _checked(options.output)
        cell = executing(self.shell)
        if cell is not None and cell.info.silent:
            return  # IPython calls no hook after it
        try:
            measurement = Measurement(default_monitor(), options.interval)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if not self._measuring:
            self.shell.events.register("post_run_cell", self._after_cell)
        self._measuring.append(_Measuring(None if cell is None else cell.info, measurement, output))

    def _after_cell(self, result: Any) -> None:
        """Show what was measured in the cell that has ended, the measurement that began last first."""
        ended = [one for one in self._measuring if one.cell is None or ends(result, one.cell)]
        self._measuring = [one for one in self._measuring if one not in ended]
        if not self._measuring:
            self.shell.events.unregister("post_run_cell", self._after_cell)
        for one in reversed(ended):
            one.measurement.end()
            if one.output:
                self.shell.user_ns[one.output] = one.measurement.rows
            print(one.measurement.summary())
            picture = one.measurement.picture() if is_jupyter_kernel() else ""
            if picture:
                from perfmon_widgets.views.svg import image  # noqa: PLC0415 - a terminal shows no pictures

                words = "picture of the cell's samples"
                display({"text/html": image(picture, words), "text/plain": f"<{words}>"}, raw=True)

    def close(self) -> None:
        """End all measurements, and the server."""
        if self._measuring:
            self._after_cell(None)
        if self._kept.server is not None:
            self._kept.server.stop()


def unwrapped(lines: list[str]) -> list[str]:
    """Return a cell that begins with ``%%perfmon`` as an ordinary cell with one statement in front.

    IPython then executes the rest as any other cell: with await, the value that is shown, exceptions and
    interrupts, which a cell magic cannot do as well.
    """
    if not lines or lines[0].split(None, 1)[:1] != ["%%perfmon"] or not "".join(lines[1:]).strip():
        return lines
    arguments = "".join(lines[0].split(None, 1)[1:]).rstrip()
    begin = f"get_ipython().magics_manager.registry['PerfmonMagics'].measure({arguments!r})\n"
    return [begin, *to_cell_magic(unwrapped(lines[1:]))]


# Makes IPython leave the transformation out when a terminal asks whether the typed cell is complete: that is
# decided by the two percent signs.
unwrapped.has_side_effects = True  # type: ignore[attr-defined]


def complete(_: InteractiveShell, event: Any) -> list[str]:
    """Return what may follow in a line that begins with ``%perfmon`` or ``%%perfmon``: IPython's Tab.

    Raises TryNext where the name of a file or variable may follow, which IPython completes itself.
    """
    *words, begun = event.text_until_cursor.split(" ")
    words = [word for word in words if word]
    if not words:
        raise TryNext
    if words[0].startswith("%%"):
        found = ["--interval", "--output"]
    else:
        actions = [word for word in words[1:] if word in ACTIONS]
        taken = ACTIONS[actions[0] if actions else "panel"].options
        found = [*([] if actions else ACTIONS), *(f"--{name}" for name in taken if name != "path")]
        found += ["--output", "--help"]
    takes_value = words[-1] in ("-o", "--output", "--interval", "--window")
    matching = [word for word in found if word.startswith(begun) and word not in words]
    if takes_value or not matching:
        raise TryNext
    return matching


_COMPLETED = ("%perfmon", "%%perfmon")


def load(shell: InteractiveShell) -> None:
    """Add the magics to a shell."""
    shell.register_magics(PerfmonMagics)
    shell.input_transformers_cleanup.append(unwrapped)
    for name in _COMPLETED:
        shell.set_hook("complete_command", complete, str_key=name)


def unload(shell: InteractiveShell) -> None:
    """Remove the magics from a shell; the monitor goes on."""
    if unwrapped in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(unwrapped)
    for name in _COMPLETED:
        shell.strdispatchers["complete_command"].strs.pop(name, None)
    for magics in shell.magics_manager.magics.values():
        magics.pop("perfmon", None)
    registered = shell.magics_manager.registry.pop("PerfmonMagics", None)
    if registered is not None:
        registered.close()


def _parsed(magic: Any, line: str, name: str) -> Any:
    """Return the parsed arguments of a magic; raises UsageError that names the magic's help."""
    try:
        return parse_argstring(magic, line)
    except ValueError as error:  # from shlex: a quotation without its end
        reason = f"{str(error)[:1].lower()}{str(error)[1:]}: {line}"
    except UsageError as error:
        reason = str(error)
    raise UsageError(f"{reason}; see {name}?")


def _set(monitor: PerformanceMonitor, interval: float | None, window: float | None) -> None:
    """Set both or none; raises UsageError for a number that is out of range."""
    before = monitor.interval
    try:
        if interval is not None:
            monitor.interval = interval
        if window is not None:
            monitor.window = window
    except ValueError as error:
        monitor.interval = before
        raise UsageError(str(error)) from None


def _checked(name: str | None) -> str:
    """Return the name after ``-o``, empty if there is none; raises UsageError if no variable can have it."""
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise UsageError(f"-o needs a name for a variable, not {name!r}")
    return name or ""


def _unquoted(path: str | None) -> str | None:
    return path[1:-1] if path and path[0] in "\"'" and path[-1:] == path[0] else path
