"""A command as a child process: started on request, signals forwarded to it, its end noticed. Linux only."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from perfmon_widgets.clocks import time

# The signals that are forwarded. A terminal itself sends the rest to all processes of its foreground group.
_FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
    signal.SIGCONT,
)
# Python ignores these, and a program inherits which signals are ignored.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
# Seconds between two looks for signals while the child has not executed the command yet.
_BETWEEN_LOOKS = 0.05


class Result(NamedTuple):
    """How a command ended and what it used, with those of its children that it has waited for."""

    exit_code: int
    """Its own, or 128 plus the number of the signal that ended it."""
    signal: int
    """The number of the signal that ended it; 0 if it ended by itself."""
    cpu_seconds: float
    """CPU time of all together."""
    ram_bytes: float
    """The largest resident size of one of them; NaN if below this process's own, which Linux includes."""


class Command:
    """A command as a child process, which is forked at once and executes the command at ``start()``.

    So the collectors and the log are ready before the command runs, and it is sampled from its first moment.
    The alternative is to start it after our imports and to find its process then. At the first sample it
    would have run for 45 ms already (measured on 2 CPUs without a GPU; the NVIDIA driver takes longer). It
    would be running when its log turns out not to be writable. And Linux would include 33 MiB of this process
    in its peak memory instead of 11 MiB.

    The command shares standard input, output and terminal with this process, which from now on handles the
    forwarded signals in ``start()`` and ``wait()`` only. Make one per process, before any thread is started.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        # Where SIGCHLD is ignored, the end of a child cannot be noticed.
        self._inherited = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        forwarded = {number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN}
        self._watched = {*forwarded, signal.SIGCHLD}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._watched)
        # The child begins as a copy of this process, and Linux includes that in its peak memory.
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self._copied = float(pages * os.sysconf("SC_PAGE_SIZE"))
        self._gate, gate_of_child = socket.socketpair()
        self.pid = os.fork()
        """The process id of the command, also before it is started."""
        if self.pid == 0:
            self._gate.close()
            self._become(gate_of_child)
        gate_of_child.close()

    def _become(self, gate: socket.socket) -> NoReturn:
        """In the child: wait, then execute the command, or send the number of the error if that fails."""
        try:
            if gate.recv(1):  # nothing if the parent has closed it, or has ended
                self._restore_signals()
                os.execvp(self._words[0], self._words)  # noqa: S606 - running a given command is the purpose
        except OSError as error:
            gate.send(str(error.errno).encode())
        finally:
            os._exit(127)

    def _restore_signals(self) -> None:
        signal.signal(signal.SIGCHLD, self._inherited)
        for number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a pending one would raise KeyboardInterrupt here
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def start(self) -> None:
        """Run the command; raises OSError with one clear sentence if it cannot be run."""
        with self._gate:
            self._gate.send(b"x")
            number = self._answer()
        if number:
            self.abandon()
            raise _explained(self._words[0], int(number))

    def _answer(self) -> bytes:
        """Return what comes through the gate: nothing once the command runs, which closes the other end.

        A SIGTSTP that came before, from Ctrl+Z, stops the child just before it executes the command. So
        signals are handled here as in ``wait()``: this process stops too, and both can be continued.
        """
        self._gate.settimeout(_BETWEEN_LOOKS)
        while True:
            try:
                return self._gate.recv(8)
            except TimeoutError:
                received = signal.sigtimedwait(self._watched - {signal.SIGCHLD}, 0)
                if received is not None:
                    self._handle(received)

    def abandon(self) -> None:
        """End the waiting process without running the command."""
        self._gate.close()
        self.result()

    def wait(self) -> None:
        """Return when the command has ended; forward signals to it meanwhile.

        Until ``result()`` is called, /proc still shows what it has used.
        """
        while True:
            received = signal.sigwaitinfo(self._watched)
            if received.si_signo == signal.SIGCHLD:
                if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    return
                continue
            self._handle(received)

    def _handle(self, received: signal.struct_siginfo) -> None:
        """Forward a signal to the command, and stop with it."""
        # A positive code means that the OS kernel sent the signal, for a key or a closed terminal: to the
        # whole process group, so that the command has received it too.
        if received.si_code <= 0:
            with contextlib.suppress(PermissionError):  # started by sudo it belongs to another user
                os.kill(self.pid, received.si_signo)
        if received.si_signo == signal.SIGTSTP:
            self._stop_too()

    def _stop_too(self) -> None:
        """Stop this process as an unblocked SIGTSTP would have done; return when it is continued."""
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})

    def linger(self, seconds: float) -> None:
        """Return after that time, or at a signal such as that of Ctrl+C; the command has ended before.

        Ctrl+Z stops this process; the time goes on meanwhile.
        """
        end = time.monotonic() + seconds
        awaited = self._watched - {signal.SIGCHLD, signal.SIGCONT}
        while received := signal.sigtimedwait(awaited, max(0.0, end - time.monotonic())):
            if received.si_signo != signal.SIGTSTP:
                return
            self._stop_too()

    def result(self) -> Result:
        """Wait for the end of the command and return its exit code and what it used."""
        _, status, used = os.wait4(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        ram_bytes = used.ru_maxrss * 1024.0
        return Result(
            code if code >= 0 else 128 - code,
            max(-code, 0),
            used.ru_utime + used.ru_stime,
            ram_bytes if ram_bytes > self._copied else math.nan,
        )


def _explained(name: str, number: int) -> OSError:
    """Return an error with a sentence for the error number with which a program could not be executed."""
    reason = os.strerror(number)
    if number == errno.ENOENT:
        found = shutil.which(name)
        reason = f"the interpreter named in {found} does not exist" if found else "command not found"
    elif number == errno.ENOEXEC:
        reason = "it is not a program, and its first line does not name an interpreter (#!)"
    return OSError(number, f"cannot run {name!r}: {reason}")
