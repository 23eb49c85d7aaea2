"""A real file system whose server stops to answer: FUSE, spoken by hand."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Numbers of the protocol, from the OS kernel's include/uapi/linux/fuse.h.
_GETATTR, _STATFS, _INIT = 3, 17, 26
_NO_ANSWER_WANTED = (2, 36, 42)  # forget, interrupt, batch forget
_NOT_KNOWN = -38


@contextmanager
def mounted(point: Path) -> Iterator[threading.Event]:
    """Mount it there; once the event is set, it does not answer how much space there is.

    Raises OSError where this user may not mount.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"far away", os.fsencode(point), b"fuse.hung", 0, options):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount: {os.strerror(number)}")
    away = threading.Event()
    server = threading.Thread(target=_serve, args=(device, away), daemon=True)
    server.start()
    try:
        yield away
    finally:
        libc.umount2(os.fsencode(point), 1 | 2)  # force: whoever waits gets an error; detach
        server.join(10)
        os.close(device)


def _serve(device: int, away: threading.Event) -> None:
    while True:
        try:
            request = os.read(device, 1 << 17)
        except OSError:  # unmounted
            return
        _, operation, identity = struct.unpack_from("<IIQ", request)
        if operation in _NO_ANSWER_WANTED or (operation == _STATFS and away.is_set()):
            continue
        body = _answer(operation)
        error = 0 if body else _NOT_KNOWN
        try:
            os.write(device, struct.pack("<IiQ", 16 + len(body), error, identity) + body)
        except FileNotFoundError:  # the asker was interrupted
            continue


def _answer(operation: int) -> bytes:
    if operation == _INIT:
        return struct.pack("<IIIIHHIIHH", 7, 31, 1 << 16, 0, 12, 10, 1 << 16, 1, 0, 0).ljust(64, b"\0")
    if operation == _GETATTR:  # a directory; to be remembered for an hour
        return struct.pack("<QIIQQQQQQIIIIIIIIII", 3600, 0, 0, 1, *[0] * 8, 0o40755, 2, *[0] * 3, 512, 0)
    if operation == _STATFS:  # 1000 blocks, 400 free, of 4096 bytes
        return struct.pack("<QQQQQIII", 1000, 400, 400, 10, 5, 4096, 255, 4096).ljust(80, b"\0")
    return b""
