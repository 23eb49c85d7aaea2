"""How fast the core is: ``pytest tests/benchmarks/bench_core.py`` prints figures, and fails nothing.

Goals (issue 2): one sample with the default collectors ≤ 0.3 ms of CPU; History.append ≤ 10 µs and .frame
≤ 100 µs at 120 rows × 400 columns; ``import perfmon_widgets`` < 20 ms of CPU beyond the interpreter's own.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import time

import pytest

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.core.history import History

COLUMNS = [f"core{number}/cpu_percent" for number in range(400)]

# Where a goal speaks of CPU, only that of this thread counts, whatever else runs on the machine.
cpu_time = pytest.mark.benchmark(timer=time.thread_time)


def full_history() -> History:
    """120 rows of 400 columns, and no room for more."""
    ticks = itertools.count()
    history = History(COLUMNS, 119.5, lambda: float(next(ticks)))
    for row in range(300):
        history.append(1.7e9 + row, [float(row)] * len(COLUMNS))
    assert len(history) == 120
    return history


@cpu_time
def test_one_sample_with_the_default_collectors(benchmark):
    monitor = PerformanceMonitor()
    benchmark(monitor.sample)


@cpu_time
def test_one_sample_in_a_thread_that_slept(benchmark):
    """As it is lived: caches are cold after a pause."""
    monitor = PerformanceMonitor()
    benchmark.pedantic(monitor.sample, setup=lambda: time.sleep(0.02), rounds=100)


@cpu_time
def test_one_sample_while_it_is_logged(benchmark, tmp_path):
    monitor = PerformanceMonitor(window=1)
    monitor.log.start(tmp_path / "run.csv")
    benchmark(monitor.sample)
    monitor.stop()


@cpu_time
def test_append_to_a_history(benchmark):
    history = full_history()
    row = (1.0,) * len(COLUMNS)
    benchmark.pedantic(history.append, args=(1.7e9, row), rounds=200, iterations=100, warmup_rounds=20)


@cpu_time
def test_frame_of_a_history(benchmark):
    history = full_history()
    benchmark.pedantic(history.frame, rounds=200, iterations=10, warmup_rounds=20)


@cpu_time
def test_history_of_a_monitor_with_the_default_columns(benchmark):
    monitor = PerformanceMonitor()
    for _ in range(120):
        monitor.sample()
    benchmark(lambda: monitor.history)


@cpu_time
def test_history_of_a_monitor_with_400_columns(benchmark):
    from perfmon_widgets import Metric

    class Many:
        metrics = tuple(Metric(name, "percent", "cpu", "Some number.") for name in COLUMNS)

        def collect(self) -> dict[str, float]:
            return dict.fromkeys(COLUMNS, 1.0)

    monitor = PerformanceMonitor([Many()])
    for _ in range(120):
        monitor.sample()
    benchmark(lambda: monitor.history)


@cpu_time
def test_record(benchmark):
    monitor = PerformanceMonitor([])
    benchmark(lambda: monitor.record(loss=0.5, accuracy=0.9))


@cpu_time
def test_mark(benchmark):
    monitor = PerformanceMonitor([])
    benchmark(lambda: monitor.mark("epoch"))


def in_a_span(monitor: PerformanceMonitor) -> None:
    with monitor.span("step"):
        pass


@pytest.mark.parametrize("pause", [0.0, 0.15], ids=["in a row", "after a pause"])
def test_a_short_span(benchmark, pause):
    """In a row nearly all are without a sample; after a pause each waits for the one at its start."""
    with PerformanceMonitor(interval=3600) as monitor:
        benchmark.pedantic(in_a_span, args=(monitor,), setup=lambda: time.sleep(pause), rounds=60)


@pytest.mark.parametrize("hooked", [False, True], ids=["without", "with"])
@pytest.mark.parametrize("pause", [0.0, 0.15], ids=["in a row", "after a pause"])
def test_a_cell(benchmark, pause, hooked):
    """Goal (issue 6): the hooks cost at most 0.2 ms for each cell beyond the samples."""
    from IPython.core.interactiveshell import InteractiveShell

    from perfmon_widgets.jupyter import kernel  # noqa: F401 - notifies the monitor of the cells

    shell = InteractiveShell.instance()
    monitor = PerformanceMonitor(interval=3600)
    if hooked:
        monitor.start()
    benchmark.pedantic(
        lambda: shell.run_cell("pass", store_history=True),
        setup=lambda: time.sleep(pause),
        rounds=60,
        warmup_rounds=3,
    )
    assert len(monitor.cells) == (63 if hooked else 0)
    monitor.stop()
    InteractiveShell.clear_instance()


def cpu_of_an_interpreter(code: str) -> float:
    """Seconds of CPU that an interpreter takes for the code, start included: the median of 9."""
    program = f"import time\n{code}\nprint(time.process_time())"
    return statistics.median(
        float(
            subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        )
        for _ in range(9)
    )


@pytest.mark.parametrize(
    "code",
    [
        "import perfmon_widgets",
        "from perfmon_widgets import PerformanceMonitor",
        "from perfmon_widgets import PerformanceMonitor; PerformanceMonitor()",
        "from perfmon_widgets import PerformanceMonitor; PerformanceMonitor().history",
    ],
    ids=["package", "class", "made", "history"],
)
def test_import(benchmark, code):
    bare = cpu_of_an_interpreter("")
    took = float(benchmark.pedantic(cpu_of_an_interpreter, args=(code,), rounds=1))
    benchmark.extra_info["ms beyond the interpreter"] = round(1000 * (took - bare), 1)
    print(f"\n{code}: {1000 * (took - bare):.1f} ms of CPU beyond the interpreter's {1000 * bare:.1f} ms")
