"""A command run from here: let go when all is ready, signals passed on, its end noticed; Linux only."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

# What is passed on. A terminal sends the rest to all processes of its foreground group by itself.
_RELAYED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
    signal.SIGCONT,
)
# Python ignores these, and what is ignored stays so in the command.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class Result(NamedTuple):
    """What the OS kernel tells of a command that has ended, and of its children that it has waited for."""

    exit_code: int
    """Its own, or 128 and the number of the signal that ended it."""
    cpu_seconds: float
    """CPU time of all together."""
    ram_bytes: float
    """The most memory that was resident in one of them; NaN if that is less than the runner's own, which
    the OS kernel counts in."""


class Command:
    """A process that becomes the command when it is let go, so that it can be watched from its first moment.

    It shares standard input, output and terminal with this process. Until this process ends, the signals that
    are passed on are held back from it. Make one per process, before any thread is started.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._inherited = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where ignored, no end is noticed
        relayed = {number for number in _RELAYED if signal.getsignal(number) is not signal.SIG_IGN}
        self._watched = {*relayed, signal.SIGCHLD}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._watched)
        # A copy of this memory is what the command is at first, and Linux counts that in.
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self._copied = float(pages * os.sysconf("SC_PAGE_SIZE"))
        gate, self._gate = os.pipe()
        self._failure, failure = os.pipe()
        self.pid = os.fork()
        """Its process id, the same before and after it is let go."""
        if self.pid == 0:
            self._become(gate, failure)
        os.close(gate)
        os.close(failure)

    def _become(self, gate: int, failure: int) -> NoReturn:
        """In the forked process: wait to be let go, then be the command."""
        try:
            os.close(self._gate)  # so that the gate is seen to close, should the other process end
            if os.read(gate, 1):
                self._restore_signals()
                os.execvp(self._words[0], self._words)  # noqa: S606 - to run it is what was asked for
        except OSError as error:
            os.write(failure, str(error.errno).encode())
        finally:
            os._exit(127)

    def _restore_signals(self) -> None:
        signal.signal(signal.SIGCHLD, self._inherited)
        for number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # one that waits already would become a traceback
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def let_go(self) -> None:
        """Run the command; raises OSError, in words for a person, if it cannot be run."""
        os.write(self._gate, b"x")
        with open(self._failure, "rb") as answer:  # noqa: PTH123 - a descriptor: closed by a successful start
            number = answer.read()
        if number:
            self.abandon()
            raise _explained(self._words[0], int(number))

    def abandon(self) -> None:
        """End the process that waits to be let go."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.result()

    def wait(self) -> None:
        """Return when the command has ended, and pass on the signals that come meanwhile.

        What it has used can still be read in /proc then, until ``result()`` is asked for.
        """
        while True:
            received = signal.sigwaitinfo(self._watched)
            if received.si_signo == signal.SIGCHLD:
                if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    return
                continue
            # A positive code means that the OS kernel sent it: for a key that was pressed, or a terminal
            # that was closed, and then the command, in the same group of processes, has got it too.
            if received.si_code <= 0:
                with contextlib.suppress(PermissionError):  # below sudo it belongs to another user
                    os.kill(self.pid, received.si_signo)
            if received.si_signo == signal.SIGTSTP:
                self._stop_too()

    def _stop_too(self) -> None:
        """Do what the signal would have done to this process, had it not been held back."""
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})

    def result(self) -> Result:
        """What is left of it; waits for its end."""
        _, status, used = os.wait4(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        most = used.ru_maxrss * 1024.0
        return Result(
            code if code >= 0 else 128 - code,
            used.ru_utime + used.ru_stime,
            most if most > self._copied else math.nan,
        )


def _explained(name: str, number: int) -> OSError:
    """The error for what the OS kernel said of a program that it could not run."""
    reason = os.strerror(number)
    if number == errno.ENOENT:
        found = shutil.which(name)
        reason = f"the interpreter that {found} names is not there" if found else "command not found"
    elif number == errno.ENOEXEC:
        reason = "it is no program, and its first line names no interpreter (#!)"
    return OSError(number, f"cannot run {name!r}: {reason}")
