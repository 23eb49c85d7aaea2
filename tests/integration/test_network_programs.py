"""A real network namespace with real interfaces: what passes them is what the columns say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

# Two ends of a cable in a namespace of their own, whose /sys stays that of the machine.
CABLE = "ip link add near type veth peer name far && ip link set near up && ip link set far up"
# More interfaces than one part of /proc/net/dev lists.
MANY = "for n in $(seq 45); do ip link add no$n type veth peer name number-$n || exit; done"

# Sends frames over the cable, and prints how many bytes these were and what the columns make of them.
PROGRAM = """
import json, socket, time
from pathlib import Path
from perfmon_widgets.collectors.linux.network import Network

network = Network(Path("/proc"), Path("/sys"))
cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
cable.bind(("near", 0))
frame = bytes.fromhex("ffffffffffff" "020000000001" "88b5") + bytes(986)
early = time.monotonic()
network.collect()
late = time.monotonic()
for _ in range(5000):
    cable.send(frame)
least = time.monotonic() - late
values = list(network.collect().values())
most = time.monotonic() - early
print(json.dumps({"sent": 5000 * len(frame), "least": least, "most": most, "values": values,
                  "sources": [metric.source for metric in network.metrics], "errors": network.errors}))
"""


@pytest.mark.kernel_may_lack  # virtual Ethernet
def test_bytes_that_pass_the_interfaces_of_a_namespace_are_counted():
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs root, and ip of iproute2")
    script = f'{MANY} && {CABLE} && exec "$@"'
    command = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode and "Traceback" not in done.stderr:
        pytest.skip(f"no such interfaces here ({done.stderr.strip()})")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["errors"] == {}
    assert found["sources"] == ["/proc/self/net/dev"] * 2
    for value in found["values"]:
        # The OS kernel itself sends some packets more (IPv6).
        assert found["sent"] / found["most"] <= value <= 1.02 * found["sent"] / found["least"]
