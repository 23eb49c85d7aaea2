"""The control groups of this process: where they are mounted, and which are the ancestors of its own."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from perfmon_widgets.collectors.linux.mountinfo import parse_mounts


def groups(controller: str, cgroup: str, mountinfo: str) -> tuple[int, Sequence[Path]]:
    """Return the version (1 or 2) of the hierarchy that has this controller, and this process's groups in it.

    The groups are folders, from the process's own up to the mount point, above which nothing is visible.
    ``cgroup`` and ``mountinfo`` are the texts of these files in /proc/self.
    """
    version, listed = _listed(controller, cgroup, mountinfo)
    # Not Path.is_dir(), which raises where this user may not look.
    if listed and not os.path.isdir(listed[0]):  # noqa: PTH112
        listed = listed[-1:]
    return version, listed


@lru_cache(maxsize=16)  # the texts are read every ten seconds and rarely change
def _listed(controller: str, cgroup: str, mountinfo: str) -> tuple[int, Sequence[Path]]:
    """Return what ``groups`` does, without checking that the folder of the process's own group exists.

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
    mounted = [
        mount
        for mount in parse_mounts(mountinfo)
        if (version == 1 and mount.kind == "cgroup" and controller in mount.options.split(","))
        or (version == 2 and mount.kind == "cgroup2")
    ]
    if not mounted:
        return version, ()
    # A part of the hierarchy may be mounted a second time: take the mount that shows most ancestors.
    best = min(mounted, key=lambda one: len(one.root) if _is_below(path, one.root) else math.inf)
    return version, _up_to(Path(best.point), best.root, path)


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _up_to(mount: Path, root: str, path: str) -> Sequence[Path]:
    """Return the folder of a group and its ancestors up to the mount point.

    The path in /proc/self/cgroup begins at the root of the hierarchy. The mount may begin further down (a
    container without a cgroup namespace), so the part that both share is cut off. A path that leaves the
    namespace (``/..``) gives the mount point alone.
    """
    inside = path[len(root.rstrip("/")) :] if _is_below(path, root) else ""
    own = mount / inside.lstrip("/")
    if ".." in own.parts:
        own = mount
    return own, *(parent for parent in own.parents if parent == mount or mount in parent.parents)
