"""The columns of an NVIDIA GPU: ``gpuN/`` goes before each name, ``GPU N`` before each label."""

from __future__ import annotations

from perfmon_widgets.metrics import Metric

SAMPLES = "mean of the driver's samples since the last reading (nvmlDeviceGetSamples), or its last period"

# What carries bytes: start of the column, name, NVML's fields for sent and received, bytes that each counts.
COUNTERS = (("pcie", "PCI Express", (197, 198), 1), ("nvlink", "all NVLinks", (138, 139), 1024))
_LABELS = {"pcie": "PCIe", "nvlink": "NVLink"}

# Declared for every visible GPU, whether it is in use or not.
METRICS = (
    Metric(
        name="utilization_percent",
        unit="percent",
        group="gpu",
        label="utilization",
        role="headline",
        limit=100.0,
        help="Share of the time in which at least one CUDA kernel ran on the GPU.",
        source=SAMPLES,
    ),
    Metric(
        name="memory_percent",
        unit="percent",
        group="gpu",
        label="memory",
        limit=100.0,
        help="GPU memory in use, of all it has.",
        source="nvmlDeviceGetMemoryInfo_v2",
    ),
    Metric(
        name="memory_used_bytes",
        unit="bytes",
        group="gpu",
        label="memory in use",
        role="headline",
        limit="memory_limit_bytes",
        help="GPU memory in use by all processes, as nvidia-smi counts it.",
        source="nvmlDeviceGetMemoryInfo_v2",
    ),
    Metric(
        name="memory_limit_bytes",
        unit="bytes",
        group="gpu",
        label="memory size",
        role="limit",
        help="Size of the GPU's memory.",
        source="nvmlDeviceGetMemoryInfo_v2",
    ),
    Metric(
        name="process_memory_bytes",
        unit="bytes",
        group="gpu",
        label="memory of this process",
        limit="memory_limit_bytes",
        help="GPU memory that this process and its descendants hold; read every five seconds.",
        source="nvmlDeviceGetComputeRunningProcesses, and the same for graphics and MPS",
    ),
    Metric(
        name="memory_activity_percent",
        unit="percent",
        group="gpu",
        label="memory activity",
        limit=100.0,
        help="Share of the time in which GPU memory was being read or written.",
        source=SAMPLES,
    ),
    Metric(
        name="power_watts",
        unit="watts",
        group="gpu",
        label="power",
        help="Power drawn by the whole board.",
        source="nvmlDeviceGetPowerUsage",
    ),
    Metric(
        name="sm_clock_hertz",
        unit="hertz",
        group="gpu",
        label="clock",
        help="Clock of the streaming multiprocessors.",
        source="nvmlDeviceGetClockInfo",
    ),
    Metric(
        name="throttled_percent",
        unit="percent",
        group="gpu",
        label="clock held back",
        limit=100.0,
        help="Share of the time in which the power limit, heat or a hardware slowdown held the clock back.",
        source="nvmlDeviceGetFieldValues, fields 74 and 251 to 253, or 74 and 75",
    ),
    *(
        Metric(
            name=f"{link}_{way}_bytes_per_second",
            unit="bytes_per_second",
            group="gpu",
            label=f"{_LABELS[link]} {way}",
            help=f"{way.capitalize()} by the GPU over {name}.",
            source=f"nvmlDeviceGetFieldValues, field {field}",
        )
        for link, name, fields, _ in COUNTERS
        for way, field in zip(("sent", "received"), fields, strict=True)
    ),
    *(
        Metric(
            name=f"torch_{kind}_bytes",
            unit="bytes",
            group="gpu",
            label=f"PyTorch {kind}",
            limit="memory_limit_bytes",
            help=f"{what}, in this process; only once it uses PyTorch on this GPU.",
            source=f"torch.cuda.memory_stats, {key}",
        )
        for kind, what, key in (
            ("allocated", "GPU memory in PyTorch's tensors", "allocated_bytes.all.current"),
            (
                "reserved",
                "GPU memory that PyTorch keeps for tensors",
                "reserved_bytes.all.current",
            ),
            (
                "peak",
                "Most GPU memory in PyTorch's tensors so far, or since torch.cuda.reset_peak_memory_stats()",
                "allocated_bytes.all.peak",
            ),
        )
    ),
)
