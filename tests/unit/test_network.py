"""Network traffic: which interfaces count, from a canned /proc and /sys, and how counters become rates."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from fakes.clocks import Clocks
from fakes.collectors import FakeMachine

from perfmon_widgets.collectors.linux import network
from perfmon_widgets.collectors.linux.interfaces import outside
from perfmon_widgets.collectors.linux.network import Network

RECEIVED, SENT = "network_received_bytes_per_second", "network_sent_bytes_per_second"
HEAD = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo\n"
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(network, "time", made)
    return made


def listed(machine: FakeMachine, process: str = "self", **counts: tuple[int, int]) -> None:
    """Write /proc/net/dev: bytes received and sent of each interface."""
    lines = [
        f"{name:>6}: {received} 1 0 0 0 0 0 0 {sent} 2 0 0 0 0 0 0"
        for name, (received, sent) in counts.items()
    ]
    machine.write(f"proc/{process}/net/dev", HEAD + "".join(line + "\n" for line in lines))


def in_sys(machine: FakeMachine, **counts: tuple[int, int]) -> None:
    """Write the same counters below /sys."""
    for name, (received, sent) in counts.items():
        machine.write(f"sys/class/net/{name}/statistics/rx_bytes", f"{received}\n")
        machine.write(f"sys/class/net/{name}/statistics/tx_bytes", f"{sent}\n")


def interface(
    machine: FakeMachine, name: str, *others: str, card: bool = False, master: str = "", kind: int = 1
) -> None:
    """An interface below /sys: a card, the slave of a master, or one on top of others."""
    folder = machine.write(f"sys/class/net/{name}/type", f"{kind}\n").parent
    if card:
        (folder / "device").symlink_to("../../../0000:00:05.0")
    if master:
        (folder / "master").symlink_to(f"../{master}")
    for other in others:
        (folder / f"lower_{other}").symlink_to(f"../{other}")


def route(machine: FakeMachine, *names: str) -> None:
    """Default routes by these interfaces in IPv4, and another route by ``other0``."""
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    lines = [f"{name}\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" for name in names]
    machine.write(
        "proc/self/net/route", head + "".join(lines) + "other0\t0001A8C0\t0\t1\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )


def counted(machine: FakeMachine, *names: str) -> list[str]:
    return sorted(outside(names, machine.proc / "self", machine.sys))


@pytest.fixture(params=["list", "sys"])
def where(request: pytest.FixtureRequest) -> str:
    """Where the counters are read: /sys is not there in the first case."""
    return str(request.param)


def write(machine: FakeMachine, where: str, **counts: tuple[int, int]) -> None:
    listed(machine, **counts)
    if where == "sys":
        in_sys(machine, **counts)


def read(made: Network, clock: Clocks) -> tuple[float, float]:
    """The rates two seconds later."""
    clock.passed += 2.0
    values = made.collect()
    return values[RECEIVED], values[SENT]


# -- rates -------------------------------------------------------------------------------------------------


def test_bytes_become_bytes_per_second_and_the_loopback_is_left_out(machine, clock, where):
    write(machine, where, lo=(10**9, 10**9), eth0=(5_000, 700))
    made = Network(machine.proc, machine.sys)
    assert math.isnan(read(made, clock)[0])
    assert made.errors == {}
    write(machine, where, lo=(9 * 10**9, 9 * 10**9), eth0=(9_000, 1_700))
    assert read(made, clock) == (2_000.0, 500.0)
    source = {metric.source for metric in made.metrics}
    expected = machine.sys / "class/net/eth0/statistics" if where == "sys" else machine.proc / "self/net/dev"
    assert source == {str(expected)}


def test_several_interfaces_add_up(machine, clock, where):
    write(machine, where, eth0=(0, 0), eth1=(100, 100))
    made = Network(machine.proc, machine.sys)
    made.collect()
    write(machine, where, eth0=(10, 20), eth1=(130, 140))
    assert read(made, clock) == (20.0, 30.0)


def test_an_interface_that_comes_brings_no_past(machine, clock, where):
    write(machine, where, eth0=(0, 0))
    made = Network(machine.proc, machine.sys)
    made.collect()
    clock.passed += 10  # the interfaces are chosen again
    write(machine, where, eth0=(24, 24), wlan0=(10**9, 10**9))
    assert read(made, clock) == (2.0, 2.0)
    write(machine, where, eth0=(24, 24), wlan0=(10**9 + 2, 10**9 + 4))
    assert read(made, clock) == (1.0, 2.0)
    assert made.errors == {}


def test_an_interface_that_goes_leaves_the_others(machine, clock, where):
    write(machine, where, eth0=(0, 0), wlan0=(50, 50))
    made = Network(machine.proc, machine.sys)
    made.collect()
    listed(machine, eth0=(2, 4))
    in_sys(machine, eth0=(2, 4))
    clock.passed += 10
    assert read(made, clock) == (2 / 12, 4 / 12)
    assert made.errors == {}


def test_a_file_that_can_no_longer_be_read_is_an_interface_that_has_gone(machine, clock, monkeypatch):
    write(machine, "sys", eth0=(0, 0), usb0=(50, 50))
    made = Network(machine.proc, machine.sys)
    made.collect()
    listed(machine, eth0=(2, 4))
    in_sys(machine, eth0=(2, 4))
    original = network.SystemFile.read

    def gone(self):
        if "usb0" in str(self.path):
            raise OSError(19, "No such device")
        return original(self)

    monkeypatch.setattr(network.SystemFile, "read", gone)
    assert read(made, clock) == (1.0, 2.0)


def test_a_counter_that_wraps_or_begins_anew_costs_one_row_and_gives_a_reason(machine, clock, where):
    write(machine, where, eth0=(2**32 - 10, 50))
    made = Network(machine.proc, machine.sys)
    made.collect()
    write(machine, where, eth0=(90, 60))
    assert all(map(math.isnan, read(made, clock)))
    assert "began anew" in made.errors[RECEIVED]
    write(machine, where, eth0=(190, 60))
    assert read(made, clock) == (50.0, 0.0)
    assert made.errors == {}


def test_without_an_interface_there_is_no_number_and_a_reason(machine, clock):
    """``docker run --network none``."""
    listed(machine, lo=(5, 5))
    made = Network(machine.proc, machine.sys)
    assert math.isnan(read(made, clock)[0])
    assert "no interface except the loopback" in made.errors[SENT]
    listed(machine, lo=(5, 5), eth0=(7, 7))
    assert math.isnan(read(made, clock)[0])
    assert made.errors == {}
    listed(machine, lo=(5, 5), eth0=(9, 9))
    assert read(made, clock) == (1.0, 1.0)


def test_a_sys_of_another_namespace_is_not_believed(machine, clock):
    """``unshare --net`` keeps the /sys of the machine, whose eth0 is another one."""
    listed(machine, eth0=(0, 0))
    in_sys(machine, eth0=(7_777, 8_888))
    made = Network(machine.proc, machine.sys)
    made.collect()
    listed(machine, eth0=(20, 40))
    in_sys(machine, eth0=(9_999, 9_999))
    assert read(made, clock) == (10.0, 20.0)


@pytest.mark.parametrize("name", ["x", "a.7@b", "ein-langer-name"])
def test_any_name_can_be_read(machine, clock, name):
    write(machine, "list", **{name: (0, 0)})
    made = Network(machine.proc, machine.sys)
    made.collect()
    write(machine, "list", **{name: (2, 2)})
    assert read(made, clock) == (1.0, 1.0)


def test_without_a_list_it_cannot_be_made(machine):
    with pytest.raises(FileNotFoundError):
        Network(machine.proc, machine.sys)


# -- another process ---------------------------------------------------------------------------------------


def test_another_process_is_followed_into_its_namespace_and_read_to_its_end(machine, clock):
    listed(machine, "77", eth0=(0, 0))
    link = machine.proc / "77/ns/net"
    link.parent.mkdir()
    link.symlink_to("net:[1]")
    made = Network(machine.proc, machine.sys, 77)
    made.collect()
    listed(machine, "77", eth0=(20, 20))
    assert read(made, clock) == (10.0, 10.0)
    link.unlink()
    link.symlink_to("net:[2]")  # ``ip netns exec``
    machine.write("proc/77/net/dev", HEAD)
    os.replace(machine.proc / "77/net/dev", machine.proc / "77/net/former")
    listed(machine, "77", eth0=(10**6, 10**6))
    assert math.isnan(read(made, clock)[0])
    link.unlink()  # it has ended
    listed(machine, "77", eth0=(10**6 + 2, 10**6))
    assert read(made, clock) == (1.0, 0.0)


# -- which interfaces count --------------------------------------------------------------------------------


def test_on_a_machine_the_cards_count_and_nothing_that_passes_them_again(machine):
    interface(machine, "eth0", card=True, master="bond0")
    interface(machine, "eth1", card=True, master="bond0")
    interface(machine, "wlan0", card=True)
    interface(machine, "bond0", "eth0", "eth1")
    interface(machine, "bond0.7", "bond0")
    interface(machine, "docker0", "veth12")
    interface(machine, "veth12", master="docker0")
    interface(machine, "cali34")
    interface(machine, "wg0", kind=65534)
    route(machine, "bond0", "wg0")
    names = [path.name for path in (machine.sys / "class/net").iterdir()]
    assert counted(machine, "lo", *names) == ["eth0", "eth1", "wlan0"]


def test_in_a_container_the_ends_of_its_veth_pairs_count(machine):
    interface(machine, "eth0")
    interface(machine, "eth1")
    interface(machine, "tunl0", kind=768)
    interface(machine, "docker0", "veth12")  # docker in docker
    interface(machine, "veth12", master="docker0")
    route(machine, "eth0")
    assert counted(machine, "lo", "eth0", "eth1", "tunl0", "docker0", "veth12") == ["eth0", "eth1"]


def test_in_a_container_with_a_card_of_its_own_the_cable_with_the_default_route_counts_too(machine):
    """A pod with an SR-IOV card for training: its data sets come by the cable."""
    interface(machine, "eth0")
    interface(machine, "net1", card=True)
    interface(machine, "other0")
    route(machine, "eth0")
    assert counted(machine, "lo", "eth0", "net1", "other0") == ["eth0", "net1"]


def test_a_default_route_of_ipv6_counts(machine):
    interface(machine, "eth0")
    interface(machine, "net1", card=True)
    lines = f"{'0' * 32} 00 {'0' * 32} 00 fe80{'0' * 28} 00000400 00000001 00000000 00000003     eth0\n"
    machine.write("proc/self/net/ipv6_route", lines)
    assert counted(machine, "eth0", "net1") == ["eth0", "net1"]


def test_a_virtual_function_below_another_card_counts_once(machine):
    """Azure: the packets of enP1 are counted by eth0, too, which is a card of the hypervisor."""
    interface(machine, "eth0", "enP1", card=True)
    interface(machine, "enP1", card=True, master="eth0")
    assert counted(machine, "eth0", "enP1") == ["eth0"]


def test_a_namespace_with_a_tunnel_alone_has_that(machine):
    interface(machine, "wg0", kind=65534)
    assert counted(machine, "lo", "wg0") == ["wg0"]


def test_without_sys_everything_but_the_loopback_counts(machine):
    assert counted(machine, "lo", "eth0", "eth1") == ["eth0", "eth1"]


# -- this machine ------------------------------------------------------------------------------------------


def test_the_list_of_this_machine_is_read_whole():
    made = Network(Path("/proc"), Path("/sys"))
    names = set(made._read_list())
    assert names == {
        line.partition(":")[0].strip() for line in Path("/proc/net/dev").read_text().split("\n")[2:-1]
    }
