"""AMD GPUs made of files: the parts of /sys, /proc and /dev that their driver fills."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from perfmon_widgets.collectors.linux.system_file import SystemFile

MIB = 2**20

# Every number differs, so that a file that is mistaken for another shows.
DISCRETE = {
    "gpu_busy_percent": "37",
    "mem_busy_percent": "12",
    "mem_info_vram_total": str(16384 * MIB),
    "mem_info_vram_used": str(4096 * MIB),
    "mem_info_gtt_total": str(32000 * MIB),
    "mem_info_gtt_used": str(50 * MIB),
    "power/runtime_status": "active",
    "hwmon/hwmon3/name": "amdgpu",
    "hwmon/hwmon3/power1_average": "123000000",
    "hwmon/hwmon3/freq1_input": "2105000000",
    "hwmon/hwmon3/freq2_input": "1000000000",
    "hwmon/hwmon3/temp1_input": "61000",
    "unique_id": "a1b2c3d4e5f60718",
    "product_name": "Radeon RX 6900 XT",
}
# As Phoenix with Linux 6.18: no load of the memory, power under the other name, no number of its own.
APU = {
    "gpu_busy_percent": "5",
    "mem_info_vram_total": str(512 * MIB),
    "mem_info_vram_used": str(128 * MIB),
    "mem_info_gtt_total": str(16000 * MIB),
    "mem_info_gtt_used": str(900 * MIB),
    "power/runtime_status": "unsupported",
    "hwmon/hwmon4/power1_input": "15000000",
    "hwmon/hwmon4/freq1_input": "800000000",
    "product_name": "",
}
# As an MI300X: no power1_average.
MI300 = {
    "gpu_busy_percent": "88",
    "mem_busy_percent": "44",
    "mem_info_vram_total": str(196592 * MIB),
    "mem_info_vram_used": str(98296 * MIB),
    "power/runtime_status": "unsupported",
    "hwmon/hwmon7/power1_input": "600000000",
    "hwmon/hwmon7/freq1_input": "2100000000",
    "hwmon/hwmon7/freq2_input": "1300000000",
    "unique_id": "00ff00ff00ff00ff",
    "product_name": "AMD Instinct MI300X OAM",
}


class FakeAmd:
    """A machine with AMD GPUs, below a folder; a file written anew is read at the next reading."""

    def __init__(self, folder: Path) -> None:
        self.sys, self.proc, self.dev = folder / "sys", folder / "proc", folder / "dev"
        self.errors: dict[str, int] = {}
        """The error number with which reading a file of this name fails."""
        self.opened: list[str] = []
        self._cards = 0
        self._nodes = 1
        self._write(
            self.sys / "class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 16\nsimd_count 0\n"
        )
        self.process(os.getpid())

    def gpu(self, pci: str, files: dict[str, str], *, partitions: int = 1, node: int | None = None) -> Path:
        """Add a GPU; returns its folder."""
        folder = self.sys / "devices/pci0000:00" / pci
        for name, content in files.items():
            self._write(folder / name, f"{content}\n")
        self._write(folder / "vendor", "0x1002\n")
        self._write(folder / "device", "0x73bf\n")
        self._write(folder / "uevent", f"DRIVER=amdgpu\nPCI_ID=1002:73BF\nPCI_SLOT_NAME={pci}\n")
        for partition in range(partitions):
            self._card(folder if partition == 0 else self._platform())
            self._node(pci, partition, files.get("unique_id", "0"), node)
        return folder

    def other(self, pci: str, vendor: str, driver: str) -> None:
        """Add a card that is not AMD's, or that another driver has."""
        folder = self.sys / "devices/pci0000:00" / pci
        self._write(folder / "vendor", f"{vendor}\n")
        self._write(folder / "uevent", f"DRIVER={driver}\nPCI_SLOT_NAME={pci}\n")
        self._card(folder)

    def _platform(self) -> Path:
        """The device of all partitions of a GPU but the first: nothing is measured there."""
        folder = self.sys / f"devices/platform/amdgpu_xcp_{self._cards}"
        self._write(folder / "uevent", "DRIVER=amdgpu_xcp\n")
        return folder

    def _card(self, folder: Path) -> None:
        number = self._cards
        self._cards += 1
        for name in (f"card{number}", f"renderD{128 + number}"):
            (folder / "drm" / name).mkdir(parents=True)
            link = self.sys / "class/drm" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder / "drm" / name)
            (folder / "drm" / name / "device").symlink_to(folder)
        (self.sys / "class/drm" / f"card{number}-DP-1").mkdir()
        self._write(self.dev / f"dri/renderD{128 + number}", "")

    def _node(self, pci: str, partition: int, identity: str, node: int | None) -> None:
        domain, bus, rest = pci.split(":")
        device, function = rest.split(".")
        location = int(bus, 16) << 8 | int(device, 16) << 3 | int(function) | partition << 28
        number = self._nodes if node is None else node
        self._nodes += 1
        self._write(
            self.sys / f"class/kfd/kfd/topology/nodes/{number}/properties",
            f"cpu_cores_count 0\nsimd_count 320\nlocation_id {location}\ndomain {int(domain, 16)}\n"
            f"unique_id {int(identity, 16)}\n",
        )

    def process(self, number: int, children: str = "") -> None:
        """Add a process, or change its children."""
        self._write(self.proc / f"{number}/task/{number}/children", children)
        for folder in ("fd", "fdinfo"):
            (self.proc / f"{number}/{folder}").mkdir(exist_ok=True)

    def opens(
        self,
        process: int,
        pci: str,
        *,
        client: int,
        vram: str = "0 KiB",
        gtt: str = "0 KiB",
        driver: str = "amdgpu",
    ) -> None:
        """Have a process open a GPU and hold memory on it."""
        folder = self.proc / str(process)
        number = len(list((folder / "fd").iterdir()))
        (folder / "fd" / str(number)).symlink_to("/dev/dri/renderD128")
        self._write(
            folder / "fdinfo" / str(number),
            "pos:\t0\nflags:\t02100002\nmnt_id:\t23\nino:\t777\n"
            f"drm-driver:\t{driver}\ndrm-client-id:\t{client}\ndrm-pdev:\t{pci}\npasid:\t32769\n"
            f"drm-memory-vram:\t{vram}\ndrm-memory-gtt: \t{gtt}\ndrm-memory-cpu: \t0 KiB\n"
            "drm-engine-compute:\t0 ns\n",
        )

    def open(self, path: Path) -> SystemFile:
        """Opens a file as the collector does; reading one that is named in ``errors`` fails."""
        self.opened.append(path.name)
        if path.name not in self.errors and not path.exists():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return _File(path, self.errors)

    def _write(self, path: Path, content: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


class _File(SystemFile):
    def __init__(self, path: Path, errors: dict[str, int]) -> None:
        if path.exists():
            super().__init__(path)
        else:
            self.path, self._descriptor = path, -1
        self._errors = errors

    def read(self) -> bytes:
        number = self._errors.get(self.path.name)
        if number is not None:
            raise OSError(number, os.strerror(number), str(self.path))
        return super().read()
