"""The control groups of a process: where they are mounted, and which are the ancestors of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from perfmon_widgets.collectors.linux.mountinfo import Mount, parse_mounts
from perfmon_widgets.collectors.linux.processes import PROC
from perfmon_widgets.collectors.linux.system_file import read_if_there

# The number of the namespace of control groups in which the machine starts.
_FIRST_NAMESPACE = "cgroup:[4026531835]"
# Files that only the root of a hierarchy lacks (version 2), or that only it has (version 1).
_NOT_IN_ROOT, _ONLY_IN_ROOT = "cgroup.events", "release_agent"


class Groups(NamedTuple):
    """The control groups of a process in one hierarchy."""

    version: int
    """1 or 2."""
    folders: Sequence[Path]
    """From its own group up to the mount point, above which nothing is visible; empty if none is mounted."""
    unseen: str = ""
    """Which limits of the process cannot be seen from here, in words; empty if there are none such."""
    is_own: bool = True
    """Whether its own group is visible. Otherwise the mount point is the only folder."""


def groups(controller: str, cgroup: str, mountinfo: str, process: int = 0, proc: Path = PROC) -> Groups:
    """Return the groups of a process in the hierarchy that has this controller.

    ``cgroup`` is the text of /proc/<pid>/cgroup of the process, ``mountinfo`` that of /proc/self/mountinfo.
    ``process`` is its id, by which its group is searched for if these two do not give it; 0: do not search.
    """
    version, path, mounted = _mounted(controller, cgroup, mountinfo)
    if not mounted:
        hidden = bool(path) and (path != "/" or _in_namespace(proc))
        return Groups(version, (), "the control groups are not mounted here" if hidden else "")
    top, own = _own_group(path, mounted, process)
    if own is None:
        return Groups(version, (top,), f"the control group of this process is not below {top}", is_own=False)
    folders = own, *(parent for parent in own.parents if parent == top or top in parent.parents)
    # Not Path.exists(), which raises where this user may not look.
    is_root = (
        os.path.exists(top / _ONLY_IN_ROOT)  # noqa: PTH110
        if version == 1
        else not os.path.exists(top / _NOT_IN_ROOT)  # noqa: PTH110
    )
    return Groups(version, folders, "" if is_root else f"limits of the groups above {top} cannot be seen")


@lru_cache(maxsize=16)  # the texts are read every ten seconds and rarely change
def _mounted(controller: str, cgroup: str, mountinfo: str) -> tuple[int, str, Sequence[Mount]]:
    """Return the version of the hierarchy, the path of the process's group in it, and where it is mounted.

    A hybrid host lists hierarchies of both versions. Version 1 is used if one of its lines names the
    controller; otherwise version 2 is.
    """
    version, path = 0, ""
    for line in cgroup.split("\n"):
        _, _, named = line.partition(":")
        controllers, _, group = named.partition(":")
        if controller in controllers.split(","):
            version, path = 1, group
            break
        if group and not controllers:
            version, path = 2, group
    return (
        version,
        path,
        [
            mount
            for mount in parse_mounts(mountinfo)
            if (version == 1 and mount.kind == "cgroup" and controller in mount.options.split(","))
            or (version == 2 and mount.kind == "cgroup2")
        ],
    )


def _own_group(path: str, mounted: Sequence[Mount], process: int) -> tuple[Path, Path | None]:
    """Return the mount point that shows most ancestors of a process's group, and the folder of that group.

    The second is None if no mount shows it. The path in /proc/<pid>/cgroup and the root of a mount both begin
    at the root of the hierarchy or, inside a namespace, at that of the namespace, above which ``..`` leads.
    """
    shown = [(Path(mount.point), *_relative(path, mount.root)) for mount in mounted]
    # A part of the hierarchy may be mounted a second time: the mount that begins highest shows most of it.
    visible = sorted(
        ((point, inside) for point, inside, missing in shown if inside is not None and not missing),
        key=lambda one: -len(one[1]),
    )
    for point, inside in visible[:1]:
        own = point.joinpath(*inside)
        return point, own if os.path.isdir(own) else None  # noqa: PTH112 - as above
    for point, below, missing in shown:
        if below is not None and process:
            found = _search(point, missing, tuple(below), process)
            if found is not None:
                return point, found
    return shown[0][0], None


def _relative(path: str, root: str) -> tuple[list[str] | None, int]:
    """Return the way from the root of a mount to a group, and how many names of it are missing at its start.

    Some are missing where the mount begins above the namespace: its root is ``/..``, and the path of the
    group begins below that, at the namespace's root, whose name is not given. The first is None if the group
    is not below the root.
    """
    names, roots = path.split("/"), root.split("/")
    names, roots = [name for name in names if name], [name for name in roots if name]
    while names and roots and names[0] == roots[0]:
        del names[0], roots[0]
    if ".." in names or any(name != ".." for name in roots):
        return None, 0
    return names, len(roots)


@lru_cache(maxsize=16)  # the names of groups never change, and the search may read many
def _search(point: Path, missing: int, inside: Sequence[str], process: int) -> Path | None:
    """Return the group with this process; the first ``missing`` names of its path are not known."""
    wanted = b"%d" % process
    for folder in _below(point, missing):
        own = folder.joinpath(*inside)
        if wanted in read_if_there(own / "cgroup.procs").split():
            return own
    return None


def _below(folder: Path, levels: int) -> Iterator[Path]:
    """Yield the groups that are ``levels`` levels below."""
    if not levels:
        yield folder
        return
    try:
        found = [Path(entry) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:  # this user may not look, or it was removed
        return
    for each in found:
        yield from _below(each, levels - 1)


def _in_namespace(proc: Path) -> bool:
    try:
        return os.readlink(proc / "self" / "ns" / "cgroup") != _FIRST_NAMESPACE  # noqa: PTH115
    except OSError:
        return False
