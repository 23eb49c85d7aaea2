"""The columns of an AMD GPU: ``gpuN/`` goes before each name, ``GPU N`` before each label."""

from __future__ import annotations

from perfmon_widgets.metrics import Metric

# Declared for every visible GPU, whether it is in use or not. The sources are files of the GPU in /sys.
METRICS = (
    Metric(
        name="utilization_percent",
        unit="percent",
        group="gpu",
        label="utilization",
        role="headline",
        limit=100.0,
        help="Load of the GPU as its firmware measures it.",
        source="gpu_busy_percent",
    ),
    Metric(
        name="memory_percent",
        unit="percent",
        group="gpu",
        label="memory",
        limit=100.0,
        help="GPU memory in use, of all it has.",
        source="as the next two columns",
    ),
    Metric(
        name="memory_used_bytes",
        unit="bytes",
        group="gpu",
        label="memory in use",
        role="headline",
        limit="memory_limit_bytes",
        help="GPU memory (VRAM) in use by all processes; of an APU also the machine's memory (GTT).",
        source="mem_info_vram_used; of an APU plus mem_info_gtt_used",
    ),
    Metric(
        name="memory_limit_bytes",
        unit="bytes",
        group="gpu",
        label="memory size",
        role="limit",
        help="Size of the GPU's memory (VRAM); of an APU also the machine's memory (GTT).",
        source="mem_info_vram_total; of an APU plus mem_info_gtt_total",
    ),
    Metric(
        name="memory_activity_percent",
        unit="percent",
        group="gpu",
        label="memory activity",
        limit=100.0,
        help="Load of the GPU's memory controller as its firmware measures it.",
        source="mem_busy_percent",
    ),
    Metric(
        name="power_watts",
        unit="watts",
        group="gpu",
        label="power",
        help="Power drawn by the GPU's package.",
        source="power1_average, or power1_input",
    ),
    Metric(
        name="clock_hertz",
        unit="hertz",
        group="gpu",
        label="clock",
        help="Clock of the GPU's compute units.",
        source="freq1_input",
    ),
    Metric(
        name="memory_clock_hertz",
        unit="hertz",
        group="gpu",
        label="memory clock",
        help="Clock of the GPU's memory.",
        source="freq2_input",
    ),
)
