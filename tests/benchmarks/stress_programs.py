"""The programs of stress.py: each runs for the seconds in its argument, and prints what it found as JSON.

``attempts`` and ``lost`` are counts; ``times`` says how often the fault happened.
"""

FULL_DISK = """
import json, logging, pathlib, subprocess, sys, time
from fakes.collectors import FakeCollector
from perfmon_widgets import PerformanceMonitor, read_csv, read_spans
disk, filler = pathlib.Path("disk"), pathlib.Path("disk/filler")
disk.mkdir()
logging.disable()  # of each shortage
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
monitor = PerformanceMonitor([FakeCollector("row_count")], interval=0.002)
marks = 0
def mark_until(condition):
    global marks
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        monitor.mark(str(marks))
        marks += 1
        time.sleep(0.001)
with monitor:
    path = monitor.log.start(disk / "run.csv")
    shortages = said = 0
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end or not shortages:
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 512):
                    pass
            except OSError:
                pass
        shortages += 1
        mark_until(lambda: {"log", "span log"} <= monitor.errors.keys())
        said += {"log", "span log"} <= monitor.errors.keys()
        filler.unlink()
        mark_until(lambda: not monitor.errors)
expected = len(monitor.history) + marks
found = len(read_csv(path)) + len(read_spans(path))
subprocess.run(["umount", disk], check=True)
print(json.dumps({"attempts": expected, "lost": expected - found + shortages - said, "times": shortages}))
"""

INTERRUPTS = """
import json, sys, threading, time
from fakes.collectors import OtherCollector
from fakes.interrupt import Interrupt
from perfmon_widgets import PerformanceMonitor, read_csv, read_spans
from perfmon_widgets.core.sampler import Sampler
monitor = PerformanceMonitor([OtherCollector("row_count")], interval=0.02)
path = monitor.log.start("run.csv")
def work():
    monitor.mark("step")
    monitor.record(loss=1)
    with monitor.span("s"):
        pass
def samplers():
    return sum(isinstance(thread, Sampler) for thread in threading.enumerate())
tries = hits = lost = 0
end = time.monotonic() + float(sys.argv[1])
with Interrupt() as interrupt:
    while time.monotonic() < end:
        tries += 1
        if tries % 10 == 0:
            hits += interrupt.ends(monitor.start if tries % 20 else monitor.stop, tries % 97 * 4e-6)
        monitor.start()
        lost += samplers() != 1
        hits += interrupt.ends_loop(work, 0.001 + tries % 301 * 7e-6)
if not monitor.log.running:
    path = monitor.log.start("last.csv")
monitor.start()
monitor.mark("last")
monitor.stop()
time.sleep(0.1)
lost += samplers() + int(monitor.spans["end"].isna().sum()) + ("last" not in set(read_spans(path)["name"]))
print(json.dumps({"attempts": hits, "lost": lost, "times": tries}))
"""

KILLS = """
import json, os, random, signal, sys, time
from fakes.collectors import FakeCollector
from perfmon_widgets import PerformanceMonitor, read_csv
PerformanceMonitor([FakeCollector("row_count")]).history  # so that pandas is there
def log(pipe):
    monitor = PerformanceMonitor([FakeCollector("row_count")], interval=1e-4)
    monitor.on_sample(lambda sample: os.write(pipe, b"."))
    monitor.log.start("run.csv")
    with monitor:
        time.sleep(60)
attempts = lost = kills = 0
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end or not kills:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        log(writer)
    os.close(writer)
    stored = len(os.read(reader, 1))  # it runs
    time.sleep(random.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(reader, 65536):
        stored += len(more)
    os.close(reader)
    rows = read_csv("run.csv")["row_count"].tolist()
    os.unlink("run.csv")
    attempts, kills = attempts + stored, kills + 1
    lost += max(0, stored - len(rows)) + (rows != list(range(len(rows))))
print(json.dumps({"attempts": attempts, "lost": lost, "times": kills}))
"""
