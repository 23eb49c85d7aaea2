"""The package as a whole: what it offers, what it costs to import, and that these tests watch over it."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path, PurePath

import pytest

import perfmon_widgets

PACKAGE = Path(perfmon_widgets.__file__).parent
# Where the settings of ruff lie; the package may be installed elsewhere.
SOURCE = Path(__file__).parents[2] / "perfmon_widgets"

# What a program that does not ask for it shall never pay for.
HEAVY = (
    "IPython",
    "anywidget",
    "bqplot",
    "ipykernel",
    "ipywidgets",
    "jupyter_server",
    "tornado",
    "traitlets",
)

LOADED = """
import json, sys
{code}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def loaded(run_python, code: str) -> set[str]:
    """The top-level modules that are loaded after running the code in an interpreter of its own."""
    ended = run_python(LOADED.format(code=code))
    assert ended.stderr == ""
    return set(json.loads(ended.stdout))


# -- names -------------------------------------------------------------------------------------------------


def test_the_public_names_are_there():
    """Those of DESIGN.md that people script against."""
    assert {
        "Collector",
        "CsvLog",
        "Metric",
        "PerformanceMonitor",
        "PerformancePanel",
        "Sample",
        "default_collectors",
        "read_csv",
    } <= set(perfmon_widgets.__all__)


@pytest.mark.parametrize("name", perfmon_widgets.__all__)
def test_every_public_name_can_be_had_and_is_documented(name):
    assert getattr(perfmon_widgets, name).__doc__


def test_the_names_are_sorted_and_each_is_listed():
    assert list(perfmon_widgets.__all__) == sorted(set(perfmon_widgets.__all__))
    assert set(perfmon_widgets.__all__) <= set(dir(perfmon_widgets))


def test_a_type_checker_sees_the_same_names_as_the_program():
    """The lazy names stand twice in __init__.py: for the type checker and for the program."""
    source = ast.parse((PACKAGE / "__init__.py").read_text())
    seen = {
        alias.asname: node.module.removeprefix("perfmon_widgets.")
        for block in source.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == perfmon_widgets._HOMES


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="'PerformanceMonitr'"):
        _ = perfmon_widgets.PerformanceMonitr


def test_the_version_is_that_of_the_installed_package():
    assert perfmon_widgets.__version__ == importlib.metadata.version("perfmon_widgets")


def test_the_types_of_the_package_are_for_others_too():
    assert (PACKAGE / "py.typed").exists()


# -- cost of the import ------------------------------------------------------------------------------------


def test_the_import_loads_nothing_heavy(run_python):
    modules = loaded(run_python, "import perfmon_widgets")
    assert not modules & {*HEAVY, "numpy", "pandas", "psutil", "pynvml"}


def test_a_monitor_that_samples_and_logs_loads_no_widgets_and_no_pandas(run_python):
    modules = loaded(
        run_python,
        "from perfmon_widgets import PerformanceMonitor\n"
        "monitor = PerformanceMonitor()\n"
        "monitor.sample()\n"
        "monitor.log.start('run.csv')\n"
        "monitor.sample()\n"
        "monitor.stop()",
    )
    assert not modules & {*HEAVY, "pandas"}


def test_the_collectors_run_without_pandas_and_numpy(run_python):
    """They may one day run in a process of their own."""
    modules = loaded(
        run_python,
        "from perfmon_widgets import default_collectors\n"
        "for collector in default_collectors():\n"
        "    collector.collect()",
    )
    assert not modules & {*HEAVY, "pandas", "numpy"}


def test_reading_the_history_loads_no_widgets(run_python):
    modules = loaded(
        run_python,
        "from perfmon_widgets import PerformanceMonitor, read_csv\n"
        "monitor = PerformanceMonitor()\n"
        "monitor.sample()\n"
        "monitor.history\n"
        "path = monitor.log.start('run.csv')\n"
        "monitor.stop()\n"
        "read_csv(path)",
    )
    assert not modules & set(HEAVY)


# -- layers ------------------------------------------------------------------------------------------------

ROOMS = (
    "metrics",
    "clocks",
    "forks",
    "interrupts",
    "collectors",
    "views",
    "core",
    "web",
    "jupyter",
    "panel",
    "magic_actions",
    "magics",
    "cluster",
    "integrations",
)
"""From the ground up: each may import from itself and from those before it, but for the exceptions below."""

LAYERS = {
    **{room: set(ROOMS[: number + 1]) for number, room in enumerate(ROOMS)},
    "views": {"metrics", "clocks", "forks", "interrupts", "views"},
    "metrics": set(),
    "clocks": set(),
    "forks": set(),
    "interrupts": set(),
    "cluster": {*ROOMS[: ROOMS.index("core") + 1], "cluster"},
    "integrations": {*ROOMS[: ROOMS.index("core") + 1], "integrations"},
    "analysis": {"views"},
    "command": {"clocks"},
    "__main__": {"metrics", "clocks", "collectors", "views", "core", "web", "command", "cluster"},
    "__init__": set(ROOMS),
}

# Who may know which library. The ruff.toml of each room says so while one types.
HOMES = {
    "psutil": ["collectors/portable.py"],
    "pynvml": ["collectors/nvidia/collector.py"],
    "pandas": [
        *(
            "views/report.py",
            "views/death.py",
            "views/table.py",
            "views/figures.py",
            "core/history.py",
            "core/csv_read.py",
            "core/spans.py",
        ),
        *("core/span_log.py", "core/stores.py", "core/protocol.py", "jupyter/measurement.py"),
        *("magic_actions.py", "panel/*.py", "cluster/dask.py", "cluster/ranks.py"),
    ],
    "numpy": [
        *("views/*.py", "core/history.py", "core/csv_*.py", "core/spans.py", "core/stores.py"),
        "core/recorded.py",
        *("core/protocol.py", "jupyter/measurement.py", "panel/*.py"),
    ],
    "ipywidgets": ["panel/*.py", "panel/controls/*.py"],
    "anywidget": ["panel/*.py", "panel/controls/*.py"],
    "sidecar": ["panel/dock.py"],
    "traitlets": ["panel/*.py", "panel/controls/*.py"],
    "bqplot": [
        f"panel/{name}.py" for name in ("axes", "chart", "heat_map", "plot", "shading", "table", "time_axis")
    ],
    "IPython": ["jupyter/kernel.py", "jupyter/cells.py", "jupyter/guarded_cells.py", "magic*.py"],
    "tornado": [
        "web/connections.py",
        "web/handler.py",
        "jupyter/server_extension.py",
        "jupyter/server_page.py",
    ],
    "jupyter_core": ["jupyter/server_extension.py", "jupyter/server_page.py"],
    "jupyter_server": ["jupyter/server_extension.py", "jupyter/server_page.py"],
    "prometheus_client": ["web/exposition.py", "jupyter/server_extension.py"],
    "distributed": ["cluster/dask*.py"],
    "cloudpickle": ["cluster/dask.py"],
    "ray": ["cluster/ray.py", "cluster/ray_actors.py"],
    "lightning": ["integrations/lightning.py"],
    "pytorch_lightning": ["integrations/lightning.py"],
    **{
        name: [f"integrations/{name}.py"]
        for name in ("keras", "transformers", "mlflow", "tensorboard", "wandb")
    },
    "typing_extensions": ["core/monitor.py", "web/server.py", "integrations/exporter.py"],
}
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def imported(module: str) -> set[str]:
    """The full names of what a file of the package imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.update(
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "perfmon_widgets"
                else {node.module}
            )
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def is_one_of(module: str, pattern: str) -> bool:
    return PurePath("/", module).match(f"/{pattern}")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_lies_below_it(module):
    below = LAYERS[module.partition("/")[0].removesuffix(".py")]
    assert {name.split(".")[1] for name in imported(module) if name.startswith("perfmon_widgets.")} <= below


@pytest.mark.parametrize("room", [name for name in LAYERS if (PACKAGE / name).is_dir()])
def test_ruff_says_so_while_one_types(room):
    above = sorted(set(ROOMS) - LAYERS[room])
    code = "".join(
        f"import perfmon_widgets.{name}.something\nfrom perfmon_widgets import {name}\n" for name in above
    )
    ended = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--output-format", "concise",
         "--stdin-filename", SOURCE / room / "new.py", "-"],
        input=code, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.stdout.count("TID251") == 2 * len(above), ended.stdout + ended.stderr


@pytest.mark.parametrize("module", MODULES)
def test_a_module_knows_only_the_libraries_that_it_is_a_home_of(module):
    libraries = {name.partition(".")[0] for name in imported(module)} - set(sys.stdlib_module_names)
    at_home = {name for name, homes in HOMES.items() if any(is_one_of(module, home) for home in homes)}
    assert libraries - {"perfmon_widgets"} <= at_home


# -- a module that is executed again -------------------------------------------------------------------------


RELOADED = """
import importlib
from perfmon_widgets.core import monitor, registry, shared
first = shared.shared_monitor()
other = monitor.PerformanceMonitor([])
for module in (registry, monitor, shared):
    for empties in (False, True):
        if empties:  # as IPython's %autoreload does
            kept = dict(module.__dict__)
            module.__dict__.clear()
            module.__dict__.update({name: kept[name] for name in ("__name__", "__spec__", "__loader__")})
        importlib.reload(module)
    assert shared.shared_monitor() is first, module
    assert shared.default_monitor() is first, module
with other:
    assert shared.default_monitor() is other
    with first:
        assert shared.default_monitor() is first
"""


def test_a_module_that_is_executed_again_brings_no_second_shared_monitor(run_python):
    """An edited file under %autoreload: the first would go on, and each new panel start another."""
    ended = run_python(RELOADED)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


# -- the tests themselves ----------------------------------------------------------------------------------

LEAKING = """
import threading
from pathlib import Path
import pytest
from perfmon_widgets import PerformanceMonitor
from fakes.collectors import FakeCollector

kept = []

def test_monitor(folder):
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=60)
    monitor.start()

def test_thread():
    thread = threading.Thread(target=threading.Event().wait, args=(60,), name="perfmon-x", daemon=True)
    thread.start()

def test_file(folder):
    monitor = PerformanceMonitor([])
    monitor.log.start()
    kept.append(monitor)

def test_clean(folder):
    with PerformanceMonitor([FakeCollector("a_percent")]) as monitor:
        monitor.log.start()

@pytest.mark.skip(reason="no time")
def test_skipped():
    pass

def test_skips():
    pytest.importorskip("no_such_module")
"""


@pytest.mark.parametrize("ci", [False, True])
def test_what_a_test_leaves_behind_fails_it_and_on_ci_so_does_a_skip(tmp_path, ci):
    here = Path(__file__).parents[1]
    shutil.copy(here / "conftest.py", tmp_path)
    shutil.copytree(here / "fakes", tmp_path / "fakes", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "test_leaking.py").write_text(LEAKING)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # quicker
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "test_leaking.py"],
        cwd=tmp_path,
        env=environment | ({"CI": "true"} if ci else {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    output = ended.stdout
    assert "left behind: <PerformanceMonitor" in output
    assert "left behind: perfmon-x" in output
    assert "left behind: open file" in output
    if ci:
        assert "1 failed, 4 passed, 4 errors" in output
        assert "test_skipped must not be skipped on CI (Skipped: no time)" in output
        assert "no_such_module" in output
    else:
        assert "4 passed, 2 skipped, 3 errors" in output


def test_reports_load_no_widgets(run_python):
    done = run_python(
        "import sys\n"
        "from perfmon_widgets import PerformanceMonitor\n"
        "with PerformanceMonitor() as monitor:\n"
        "    with monitor.span('a'):\n"
        "        monitor.mark('b')\n"
        "        monitor.record(loss=1)\n"
        "assert 'pandas' not in sys.modules\n"
        "print(monitor.summary(), monitor.by_span(), monitor.marks)\n"
        "assert not {'IPython', 'ipywidgets', 'bqplot', 'tornado'} & set(sys.modules)\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_api_loads_neither_numpy_nor_pandas(run_python):
    """The Jupyter server loads it too."""
    code = (
        "import sys, perfmon_widgets.web.api;"
        "print({'numpy', 'pandas', 'psutil', 'tornado', 'prometheus_client', 'IPython'} & set(sys.modules))"
    )
    assert run_python(code).stdout.strip() == "set()"
