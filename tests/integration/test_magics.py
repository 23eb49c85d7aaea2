"""%perfmon and %%perfmon, in a real Jupyter kernel and in IPython in a terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from perfmon_widgets.magic_actions import ACTIONS, _relative
from perfmon_widgets.magics import unwrapped

DEADLINE = 60.0
# What is shown after a cell that was measured, as far as it is the same each time.
COST = re.compile(
    r"[\d.:]+(?: .?s)? · CPU [\d.]+ .?s \(([\d.]+%|–) of what it may use\)"
    r" · RAM peak ([\d.]+ [MG]iB) \(([+−][\d.]+ [KMG]?i?B)\) · read [\d.]+ \w*B · wrote [\d.]+ \w*B"
    r"(?: · [^\n]+)?\n"  # what held it up, on a busy machine that other programs use, too
)


@dataclass
class Answer:
    """The result of a cell."""

    status: str = ""
    error: str = ""
    """Name and text of the exception that ended it."""
    text: str = ""
    """What was printed."""
    shown: list[dict[str, Any]] = field(default_factory=list)
    """What was displayed, its last value included."""
    kinds: list[str] = field(default_factory=list)
    """The kinds of messages in their order."""


class Session:
    """A Jupyter kernel in which cells are executed one after the other."""

    def __init__(self, client: BlockingKernelClient, interrupt: Callable[[], None]) -> None:
        self._client = client
        self._interrupt = interrupt

    def run(self, code: str, *, interrupt_on: str = "") -> Answer:
        answer = Answer()

        def hear(message: dict[str, Any]) -> None:
            kind, content = message["msg_type"], message["content"]
            if kind in ("stream", "display_data", "execute_result", "error"):
                answer.kinds.append(kind)
            if kind == "stream":
                answer.text += content["text"]
                if interrupt_on and content["text"].startswith(interrupt_on):
                    self._interrupt()
            elif kind in ("display_data", "execute_result"):
                answer.shown.append(content["data"])
            elif kind == "error":
                answer.error = f"{content['ename']}: {content['evalue']}"

        # A cell that raises must not have the kernel answer what comes right behind it with "aborted".
        reply = self._client.execute_interactive(
            code, output_hook=hear, timeout=DEADLINE, stop_on_error=False
        )
        answer.status = reply["content"]["status"]
        return answer

    def value(self, expression: str) -> str:
        """The value of an expression as it is printed."""
        answer = self.run(f"print({expression})")
        assert answer.status == "ok", answer.error
        return answer.text.strip()


@pytest.fixture(scope="module")
def one_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("kernel")
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(folder))
    try:
        session = Session(client, manager.interrupt_kernel)
        assert session.run("%load_ext perfmon_widgets\nimport time").status == "ok"
        session.run("from perfmon_widgets import PerformanceMonitor")
        session.run("from perfmon_widgets.core.shared import running_monitor, shared_monitor")
        session.run("from perfmon_widgets.views.text import format_value")
        yield session
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(one_kernel: Session) -> Session:
    """The kernel with the extension loaded and the shared monitor stopped, every five seconds."""
    one_kernel.run(
        "shared_monitor().stop(); shared_monitor().interval = 5.0; shared_monitor().window = 600.0"
    )
    return one_kernel


# -- %perfmon ----------------------------------------------------------------------------------------------


def test_it_shows_the_panel_of_the_shared_monitor_again_and_again(kernel):
    first = kernel.run("%perfmon -o first\nprint('a cell goes on')")
    again = kernel.run("%perfmon -o again")
    for answer in (first, again):
        assert any("application/vnd.jupyter.widget-view+json" in data for data in answer.shown)
    assert kernel.value("type(first).__name__") == "PerformancePanel"
    assert (
        kernel.value("first.monitor is again.monitor is shared_monitor() and first.monitor.running") == "True"
    )


def test_a_docked_panel_is_shown_beside_the_notebook_and_by_the_cell(kernel):
    answer = kernel.run("%perfmon --dock -o docked")
    assert answer.status == "ok"
    [shown] = [data for data in answer.shown if "application/vnd.jupyter.widget-view+json" in data]
    assert shown["text/plain"] == "PerformancePanel"
    assert kernel.value("type(docked).__name__, docked.monitor.running") == "PerformancePanel True"
    assert kernel.value("docked._dock._tab.comm is not None") == "True"
    kernel.run("docked.close()")
    assert kernel.value("docked._dock._tab.comm is None") == "True"


def test_start_and_stop_and_the_settings(kernel):
    answer = kernel.run("%perfmon start --interval 0.5 --window 60 -o monitor")
    assert answer.text == "sampling every 0.5 s, keeping the last 60 s\n"
    assert kernel.value("monitor is shared_monitor() and monitor.running") == "True"
    assert kernel.value("monitor.interval, monitor.window") == "0.5 60.0"
    assert kernel.run("%perfmon start").text == "sampling every 0.5 s, keeping the last 60 s\n"
    assert kernel.run("%perfmon stop").text == "sampling has stopped\n"
    assert kernel.value("monitor.running") == "False"
    assert kernel.run("%perfmon stop").text == "nothing is being sampled\n"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("%perfmon strat", "invalid choice: 'strat'"),
        ("%perfmon strat", "'start', 'stop', 'summary', 'cells', 'why', 'log', 'guard', 'serve'"),
        ("%perfmon start --interval 0", "interval must be a number of seconds greater than 0, not 0.0"),
        ("%perfmon start --interval 1 --window -2", "window must be a number of seconds greater than 0"),
        ("%perfmon start --interval soon", "invalid float value: 'soon'"),
        ("%perfmon start --often", "unrecognized arguments: --often"),
        ("%%perfmon --help\nprint('executed')", "unrecognized arguments: --help; see %%perfmon?"),
        ("%perfmon stop --interval 1", "%perfmon stop takes no --interval; it goes with panel, start"),
        ("%perfmon start run.csv", "%perfmon start takes no run.csv; it goes with log"),
        ("%perfmon start --dock", "%perfmon start takes no --dock; it goes with panel"),
        ("%perfmon summary --off", "%perfmon summary takes no --off; it goes with log"),
        ("%perfmon start -o 3x", "-o needs a name for a variable, not '3x'"),
        ("%perfmon start -o None", "-o needs a name for a variable, not 'None'"),
        ("%perfmon log 'run.csv", "no closing quotation: log 'run.csv"),
        ("%perfmon log no/such/folder/run.csv", "does not exist; create it, or name another"),
        ("%%perfmon --interval 0\nprint('executed')", "interval must be a number of seconds greater than 0"),
        ("%%perfmon -o a.b\nprint('executed')", "-o needs a name for a variable, not 'a.b'"),
        ("%%perfmon -o class\nprint('executed')", "-o needs a name for a variable, not 'class'"),
        ("%%perfmon -o 'rows\nprint('executed')", "no closing quotation: -o 'rows"),
        ("%%perfmon start\nprint('executed')", "unrecognized arguments: start"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_changes_nothing(kernel, line, error):
    answer = kernel.run(line)
    assert answer.status == "error"
    assert re.fullmatch(rf"UsageError: .*{re.escape(error)}.*\n", answer.text)
    assert set(answer.kinds) == {"stream"}
    assert kernel.value("shared_monitor().interval, shared_monitor().window") == "5.0 600.0"
    assert kernel.value("running_monitor(), shared_monitor().log.running") == "None False"


def test_summary_is_a_table_in_words_and_the_numbers_on_request(kernel):
    kernel.run("%perfmon start --interval 0.1\ntime.sleep(0.3)\nblock = b'x' * 2**27\ntime.sleep(0.3)")
    (data,) = kernel.run("%perfmon summary -o table").shown
    assert re.search(r"process_ram_bytes +[\d.]+ [MG]iB", data["text/plain"])
    assert "<table" in data["text/html"]
    assert kernel.value("table.columns.tolist()") == "['unit', 'now', 'mean', 'min', 'max', 'p95']"
    assert kernel.value("table.loc['ram_used_bytes', 'max'] > 1e6") == "True"


def test_summary_says_of_which_time_and_lists_what_never_changed_below_the_table(kernel):
    kernel.run("%perfmon start --interval 0.1\ntime.sleep(0.3)\nblock = b'x' * 2**27\ntime.sleep(0.3)")
    answer = kernel.run("%perfmon summary -o table")
    time, constant, *rest = answer.text.splitlines()
    assert re.fullmatch(r"[\d-]{10} [\d:]{8} – [\d:]{8} [\w+-]+, \d+ samples", time)
    assert re.search(r"^never changed: .*\bram_limit_bytes [\d.]+ [MGT]iB", constant)
    (data,) = answer.shown
    assert "ram_limit_bytes" not in data["text/plain"]
    assert "process_ram_bytes" in data["text/plain"]
    listed = re.findall(r"\w*/?\w+_\w+", " ".join([constant, *rest]))
    shown = [line.split()[0] for line in data["text/plain"].splitlines()[2:]]
    assert sorted(shown + listed) == sorted(kernel.value("' '.join(table.index)").split())
    assert kernel.value("'ram_limit_bytes' in table.index") == "True"


def test_a_summary_of_one_sample_shows_all_columns(kernel):
    kernel.run("own = PerformanceMonitor(interval=60); own.sample(); own.start()")
    try:
        kernel.run("own.window = 1e-6; own.sample()")
        answer = kernel.run("%perfmon summary")
        assert answer.text.endswith(", 1 sample\n")
        assert "ram_limit_bytes" in answer.shown[0]["text/plain"]
    finally:
        kernel.run("own.stop()")


def test_cells_shows_what_each_cell_cost(kernel):
    kernel.run("%perfmon start --interval 0.1\nblock = None")
    kernel.run("block = b'x' * (300 * 2**20); time.sleep(0.3)")
    kernel.run("del block")
    (data,) = kernel.run("%perfmon cells -o costs").shown
    row = next(row for row in data["text/html"].split("<tr>") if "block = b'x'" in row)
    assert int(re.search(r"\+(\d+) MiB", row)[1]) == pytest.approx(300, abs=10)
    assert kernel.value("('process_ram_bytes', 'change') in costs.columns") == "True"


def test_cells_says_that_there_is_nothing_to_show(kernel):
    kernel.run("own = PerformanceMonitor(interval=60)")
    answer = kernel.run("own.start(); own.sample()\n%perfmon cells -o costs\nown.stop()")
    assert answer.text == "no cell has ended while samples were taken; each one that does is listed here\n"
    assert answer.shown == []
    assert kernel.value("('cell', 'source') in costs.columns") == "True"


def test_cells_are_named_by_what_they_do(kernel):
    kernel.run("%perfmon start --interval 0.1")
    kernel.run("%%perfmon\nimport time, math\n\nvalue = math.sqrt(4)")
    (data,) = kernel.run("%perfmon cells").shown
    assert re.search(r"\bvalue = math.sqrt\(4\)", data["text/plain"])
    assert "import time" not in data["text/plain"]
    assert data["text/plain"].split()[-1] != "–"  # the row of this cell, which has not ended


def test_tab_completes_actions_and_options(kernel):
    def completed(code: str) -> list[str]:
        reply = kernel._client.complete(code, reply=True, timeout=DEADLINE)
        return reply["content"]["matches"]

    assert completed("%perfmon s") == ["start", "stop", "summary", "serve"]
    assert set(completed("%perfmon ")) >= set(ACTIONS)
    # IPython adds names of Python, since "--o" could be minus minus o.
    assert {"--off", "--output"} <= set(completed("%perfmon log --o"))
    assert "--window" in completed("%perfmon start --interval 2 --w")
    assert "--window" not in completed("%perfmon start --window 2 --w")
    assert "--interval" in completed("%%perfmon --i")
    assert "--dock" in completed("%perfmon --d")
    assert "--off" not in completed("%perfmon summary --")


def test_help_is_printed_and_nothing_else_is_done(kernel):
    answer = kernel.run("%perfmon start --help")
    assert answer.text.lstrip().startswith("%perfmon [--interval SECONDS]")
    assert "--window SECONDS" in answer.text
    assert kernel.value("running_monitor()") == "None"


def test_without_samples_there_is_nothing_to_show(tmp_path):
    answer = in_terminal(tmp_path, "%load_ext perfmon_widgets\n%perfmon summary\n%perfmon cells\n")
    assert answer.count("UsageError: there are no samples yet; %perfmon start begins to take some") == 2


def test_every_form_is_about_the_running_monitor_of_the_user_s_own(kernel):
    kernel.run("own = PerformanceMonitor(interval=60)")
    kernel.run("own.start()\nown.sample()")
    try:
        assert kernel.run("%perfmon start --window 50 -o started").text == (
            "sampling every 60 s, keeping the last 50 s\n"
        )
        kernel.run("%perfmon summary -o table\n%perfmon cells -o costs\n%perfmon -o panel")
        kernel.run("%perfmon log own.csv\n%perfmon serve -o server")
        assert kernel.value("started is own and panel.monitor is own and own.log.running") == "True"
        assert kernel.value("list(table.index) == list(own.history)") == "True"
        assert kernel.value("costs['cell', 'source'].iloc[0]") == "own.start()"
        assert kernel.value("shared_monitor().running") == "False"
        kernel.run("import json, urllib.request as u\nheaders = {'Authorization': f'token {server.token}'}")
        kernel.run("ask = u.Request(f'{server.url}/api/performance/current', headers=headers)")
        kernel.run("now = json.load(u.urlopen(ask))")
        assert kernel.value("now['values'].keys() == own.latest.values.keys()") == "True"
        assert kernel.run("%perfmon stop").text == "sampling has stopped\n"
        assert kernel.value("own.running") == "False"
    finally:
        kernel.run("own.stop()\nserver.stop()\npanel.close()")


def test_serve_changes_over_to_the_monitor_that_is_meant_now(kernel):
    kernel.run("%perfmon serve -o first")
    kernel.run("shared_monitor().stop()\nown = PerformanceMonitor(interval=60)\nown.start()")
    kernel.run("%perfmon serve -o second")
    assert kernel.value("first.running, second.running, second is first") == "False True False"
    kernel.run("own.stop()\nsecond.stop()")


def test_log_writes_a_file_and_says_where_without_the_machine_s_folders(kernel):
    assert kernel.run("%perfmon log run.csv -o path").text == (
        "every row goes to run.csv; %perfmon log --off ends that\n"
    )
    assert kernel.value("path == __import__('pathlib').Path.cwd() / 'run.csv' and shared_monitor().running")
    kernel.run("shared_monitor().sample()")
    assert kernel.run("%perfmon log").text == "every row goes to run.csv; %perfmon log --off ends that\n"
    assert "UsageError: already logging to" in kernel.run("%perfmon log another.csv").text
    assert re.fullmatch(r"\d+ rows in run.csv\n", kernel.run("%perfmon log --off").text)
    assert kernel.run("%perfmon log --off").text == "no log is being written\n"
    assert int(kernel.value("len(__import__('perfmon_widgets').read_csv(path))")) >= 1
    assert kernel.run("%perfmon log 'with a space.csv'").text.startswith(
        "every row goes to with a space.csv;"
    )
    kernel.run("%perfmon log --off")


def test_a_path_is_absolute_where_there_is_no_working_directory(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert _relative(gone / "run.csv") == "run.csv"
    gone.rmdir()
    assert _relative(gone / "run.csv") == str(gone / "run.csv")
    monkeypatch.chdir(tmp_path)  # which is what is left at the end


def test_serve_answers_and_prints_no_token(kernel):
    answer = kernel.run("%perfmon serve")
    url, _, rest = answer.text.partition(" ")
    assert rest == "— the token is perfmon_server.token, perfmon_server.stop() ends it\n"
    token = kernel.value("perfmon_server.token")
    assert token not in answer.text
    ask = f"import urllib.request as u; r = u.Request('{url}', headers={{'Authorization': 'token {token}'}})"
    kernel.run(f"{ask}; shared_monitor().sample(); reply = u.urlopen(r).status")
    assert kernel.value("reply") == "200"
    assert kernel.run("%perfmon serve -o same").text.startswith(url)
    assert kernel.value("same is perfmon_server") == "True"
    kernel.run("perfmon_server.stop()")
    assert kernel.run("%perfmon serve").text.startswith("http")
    assert kernel.value("same is perfmon_server") == "False"
    kernel.run("perfmon_server.stop()")


def test_help_is_good_documentation(kernel):
    reply = kernel._client.inspect("%perfmon", reply=True, timeout=DEADLINE)
    text = re.sub(r"\x1b\[[\d;]*m", "", reply["content"]["data"]["text/plain"])
    words = ["%perfmon [--interval SECONDS]", "%perfmon log run.csv", "%%perfmon?"]
    words += [f"{action.name}: {action.help}" for action in ACTIONS.values()]
    assert len(words) == 3 + len(ACTIONS)
    assert [word for word in words if word not in re.sub(r"\s+", " ", text)] == []


def test_why_says_what_holds_the_work_up(kernel):
    kernel.run("%perfmon start --interval 0.5 -o monitor")
    kernel.run("monitor.window = 12.0")  # nothing of what the tests before did
    # More threads than CPUs, so that all are busy whatever else this machine does. Others may use more of
    # them, and not every OS kernel counts who waits for one.
    burn = "import hashlib; end = time.monotonic() + 14; block = b'x' * 2**20"
    work = "while time.monotonic() < end: hashlib.sha256(block).digest()"
    kernel.run(f"{burn}\nimport os, threading\ndef work():\n    {work}")
    kernel.run(
        "threads = [threading.Thread(target=work) for _ in range(2 * os.cpu_count())]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]; None"
    )
    answer = kernel.run("%perfmon why -o found")
    assert re.search("All CPUs are busy with |More threads or workers run than there are CPUs", answer.text)
    assert kernel.value("len(found)") == str(len(answer.text.splitlines()))
    assert kernel.value("[str(finding) for finding in found]") == str(answer.text.splitlines())


def test_why_has_words_where_there_is_nothing_to_say(tmp_path):
    answer = in_terminal(tmp_path, "%load_ext perfmon_widgets\n%perfmon why\n")
    assert "there are no samples yet; %perfmon start begins to take some" in answer


# -- %%perfmon ---------------------------------------------------------------------------------------------


def test_a_measured_cell_shows_its_value_and_what_it_cost(kernel):
    answer = kernel.run("%%perfmon -o rows\nblock = b'x' * (200 * 2**20)\ntime.sleep(0.7)\ndel block\n6 * 7")
    assert answer.status == "ok"
    assert answer.shown[0]["text/plain"] == "42"
    peak, change = COST.fullmatch(answer.text).group(2, 3)
    assert kernel.value("running_monitor()") == "None"  # it ran for the cell
    assert int(kernel.value("len(rows)")) >= 4
    assert float(kernel.value("rows.index.to_series().diff().dt.total_seconds().median()")) < 0.3
    assert kernel.value("rows['process_ram_bytes'].max() > 200 * 2**20") == "True"
    assert peak == kernel.value(
        "format_value(rows[['process_ram_bytes', 'process_ram_peak_bytes']].max().max(), 'bytes')"
    )
    assert re.fullmatch(r"[+−][\d.]+ ([KM]i)?B", change)
    assert answer.kinds == ["execute_result", "stream", "display_data"]
    [picture] = re.findall(r'^<img src="data:image/svg\+xml;base64,([^"]*)"', answer.shown[1]["text/html"])
    assert b">CPU of this process</text>" in b64decode(picture)
    assert f">RAM of this process, peak {peak}</text>".encode() in b64decode(picture)
    assert b">ram_percent" not in b64decode(picture)


def test_cpu_time_of_children_that_have_ended_counts(kernel):
    kernel.run("""
import os, subprocess, sys, time
busy = "import time\\nwhile time.process_time() < 0.5: pass"
def used():
    times = os.times()
    return times.children_user + times.children_system, time.process_time()
""")
    before = kernel.value("[*used()]")
    answer = kernel.run("%%perfmon\n_ = subprocess.run([sys.executable, '-S', '-c', busy])")
    after = kernel.value("[*used()]")
    children, own = (one - other for one, other in zip(json.loads(after), json.loads(before), strict=True))
    measured = float(re.search(r"CPU ([\d.]+) s", answer.text)[1])
    assert children > 0.45
    # The OS kernel counts children in hundredths of a second; what the cell prints is rounded to them, too.
    assert children - 0.03 <= measured <= children + own + 0.03


def test_the_interval_is_finer_meanwhile_and_then_as_before(kernel):
    kernel.run("%perfmon start --interval 3")
    answer = kernel.run("%%perfmon\nprint(shared_monitor().interval)")
    assert answer.text.startswith("0.2\n")
    assert kernel.run("%%perfmon --interval 0.05\nprint(shared_monitor().interval)").text.startswith("0.05\n")
    assert kernel.value("shared_monitor().interval, shared_monitor().running") == "3.0 True"
    kernel.run("%perfmon start --interval 0.1")
    assert kernel.run("%%perfmon\nprint(shared_monitor().interval)").text.startswith("0.1\n")


def test_what_the_cell_itself_sets_stays(kernel):
    kernel.run("%perfmon start\n")
    kernel.run("%%perfmon\nshared_monitor().interval = 2")
    assert kernel.value("shared_monitor().interval") == "2.0"


@pytest.mark.parametrize(
    "code", ["%perfmon start", "from perfmon_widgets import PerformancePanel; PerformancePanel()"]
)
def test_a_monitor_that_the_cell_itself_starts_goes_on(kernel, code):
    assert COST.search(kernel.run(f"%%perfmon\n{code}").text)
    assert kernel.value("shared_monitor().running, shared_monitor().interval") == "True 5.0"


def test_an_exception_is_shown_as_usual_and_the_interval_restored(kernel):
    kernel.run("%perfmon start")
    answer = kernel.run("%%perfmon\ntime.sleep(0.2)\n1 / 0")
    assert answer.status == "error"
    assert answer.error == "ZeroDivisionError: division by zero"
    assert COST.fullmatch(answer.text)
    assert kernel.value("shared_monitor().interval") == "5.0"


def test_an_interrupt_is_the_cell_s_and_the_interval_restored(kernel):
    kernel.run("%perfmon start")
    answer = kernel.run(
        "%%perfmon\nprint('now', flush=True)\nfor _ in range(600): time.sleep(0.1)", interrupt_on="now"
    )
    assert answer.error.startswith("KeyboardInterrupt")
    assert "RAM peak" in answer.text
    assert kernel.value("shared_monitor().interval, shared_monitor().running") == "5.0 True"


def test_a_cell_that_awaits(kernel):
    answer = kernel.run("%%perfmon\nimport asyncio\nfor _ in range(3): await asyncio.sleep(0.1)\n'awaited'")
    assert answer.status == "ok"
    assert answer.shown[0]["text/plain"] == "'awaited'"
    assert COST.fullmatch(answer.text)
    assert kernel.value("running_monitor(), shared_monitor().interval") == "None 5.0"


def test_a_cell_that_awaits_and_is_interrupted(kernel):
    code = (
        "%%perfmon\nimport asyncio\nprint('now', flush=True)\nfor _ in range(600): await asyncio.sleep(0.1)"
    )
    answer = kernel.run(code, interrupt_on="now")
    assert answer.status == "error"
    assert "RAM peak" in answer.text
    assert kernel.value("running_monitor(), shared_monitor().interval") == "None 5.0"


def test_a_cell_that_is_no_python_is_not_measured(kernel):
    answer = kernel.run("%%perfmon\nfor for")
    assert answer.error.startswith("SyntaxError")
    assert answer.text == ""
    assert kernel.value("running_monitor(), shared_monitor().interval") == "None 5.0"


def test_one_in_another(kernel):
    kernel.run("%perfmon start")
    inner = "%%perfmon --interval 0.05\\ntime.sleep(0.2)\\nprint(shared_monitor().interval)"
    answer = kernel.run(
        f"%%perfmon\n_ = get_ipython().run_cell('{inner}')\n"
        "print(shared_monitor().interval, shared_monitor().running)"
    )
    lines = answer.text.splitlines(keepends=True)
    assert [line for line in lines if not COST.fullmatch(line)] == ["0.05\n", "0.2 True\n"]
    assert len(lines) == 4
    assert kernel.value("shared_monitor().interval") == "5.0"


@pytest.mark.parametrize(
    "order", ["%%time\n%%perfmon\n", "%%perfmon\n%%time\n", "\n\n%%perfmon\n%%capture\n"]
)
def test_beside_other_cell_magics(kernel, order):
    answer = kernel.run(f"{order}time.sleep(0.2)\n6 * 7")
    assert answer.status == "ok"
    assert len(COST.findall(answer.text)) == 1


def test_called_by_another_program(kernel):
    answer = kernel.run("get_ipython().run_cell_magic('perfmon', '-o rows2', 'print(5)\\n')")
    assert answer.text.startswith("5\n")
    assert COST.search(answer.text)
    assert int(kernel.value("len(rows2)")) >= 1
    assert kernel.run("get_ipython().run_cell_magic('perfmon', '', '1 / 0')").status == "error"


def test_arguments_may_come_from_variables(kernel):
    kernel.run("pace = 0.07")
    answer = kernel.run("%%perfmon --interval {pace}\nprint(running_monitor().interval)")
    assert answer.text.startswith("0.07\n")


def test_a_monitor_of_the_user_s_own_is_the_one_that_measures(kernel):
    kernel.run("own = PerformanceMonitor(); own.start()")
    answer = kernel.run("%%perfmon\nprint(own.interval, shared_monitor().running)")
    assert answer.text.startswith("0.2 False\n")
    assert kernel.value("own.interval, own.running") == "5.0 True"
    kernel.run("own.stop()")


def test_a_cell_that_takes_longer_than_the_window_is_measured_as_a_whole(kernel):
    kernel.run("%perfmon start --window 0.3")
    answer = kernel.run("%%perfmon\nblock = b'x' * (400 * 2**20)\ntime.sleep(0.3)\ndel block\ntime.sleep(1)")
    peak = COST.fullmatch(answer.text)[2]
    assert float(peak.split()[0]) > 400 or peak.endswith("GiB")


def test_without_a_body_ipython_says_what_to_do(kernel):
    assert "but the cell body is empty" in kernel.run("%%perfmon\n").text


def test_what_is_run_silently_is_not_measured(kernel):
    reply = kernel._client.execute_interactive("%%perfmon\nx = 1", silent=True, timeout=DEADLINE)
    assert reply["content"]["status"] == "ok"
    assert kernel.value("running_monitor(), shared_monitor().interval") == "None 5.0"


def test_it_can_be_taken_out_and_put_in_again(kernel):
    try:
        kernel.run("%perfmon serve")
        before = "len(get_ipython().input_transformers_cleanup)"
        count = int(kernel.value(before))
        kernel.run("%unload_ext perfmon_widgets")
        assert int(kernel.value(before)) == count - 1
        assert kernel.value("perfmon_server.running, shared_monitor().running") == "False True"
        assert "`%perfmon` not found" in kernel.run("%perfmon").text
        assert "`%%perfmon` not found" in kernel.run("%%perfmon\n1").text
    finally:
        kernel.run("%load_ext perfmon_widgets")
    assert COST.search(kernel.run("%%perfmon\n1").text)
    kernel.run("%reload_ext perfmon_widgets")
    assert len(COST.findall(kernel.run("%%perfmon\n1").text)) == 1
    assert int(kernel.value(before)) == count


# -- the rewriting of a cell -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        "x = 1\n",
        "%perfmon\n",
        "%%perfmon\n",
        "%%perfmon\n\n",
        "%%perfmon?\n",
        "%%perfmonitor\n1\n",
        "%%time\n1\n",
        "",
    ],
)
def test_other_cells_are_left_as_they_are(cell):
    lines = cell.splitlines(keepends=True)
    assert unwrapped(list(lines)) == lines


def test_a_measured_cell_keeps_its_line_numbers():
    lines = ["%%perfmon --interval 0.1\n", "a = 1\n", "\n", "b = 2\n"]
    first, *rest = unwrapped(lines)
    assert rest == lines[1:]
    assert first.endswith(".measure('--interval 0.1')\n")


@pytest.mark.parametrize("space", [" ", "\t", "  \t "])
def test_any_white_space_may_stand_before_the_options_of_a_measured_cell(space):
    first, _ = unwrapped([f"%%perfmon{space}--interval 0.1\n", "a = 1\n"])
    assert first.endswith(".measure('--interval 0.1')\n")


# -- in a terminal -----------------------------------------------------------------------------------------


def in_terminal(folder: Path, code: str) -> str:
    """What IPython prints for these lines, without its prompts and colours."""
    environment = {**os.environ, "IPYTHONDIR": str(folder / "ipython"), "TERM": "dumb"}
    ended = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=nocolor", "--simple-prompt"],
        input=code,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Traceback" not in ended.stdout
    return re.sub(r"In \[\d+\]: |   \.\.\.: ", "", ended.stdout)


def test_in_a_terminal_it_prints_the_values_as_text(tmp_path):
    code = """
    %load_ext perfmon_widgets
    %perfmon
    %perfmon start --interval 0.2
    import time; time.sleep(1)
    block = b"x" * 2**27; time.sleep(0.5)
    %perfmon
    from perfmon_widgets import PerformancePanel; PerformancePanel()
    %perfmon summary
    %perfmon cells
    """
    printed = in_terminal(tmp_path, textwrap.dedent(code))
    shown = re.findall(r"^RAM +[\d.]+%  [\d.]+ of [\d.]+ [MGT]iB.*\nDisk +[\d.]+%  ", printed, re.MULTILINE)
    assert len(shown) == 3
    # The numbers end in the same column.
    # CPU has no number before the second sample.
    panels = re.findall(
        r"^CPU +(?:[\d.]+%|–)(?=  |$)|^RAM of this process +[\d.]+ [MG]iB", printed, re.MULTILINE
    )
    assert len(panels) == 6
    assert len(set(map(len, panels[:2]))) == len(set(map(len, panels[-2:]))) == 1
    assert len(re.findall(r"^at [\d:]{8}, sampled every (5|0.2) s$", printed, re.MULTILINE)) == 3
    assert "<PerformancePanel" not in printed
    # What the block has changed: the machine's memory may stay the same.
    assert re.search(r"^process_ram_bytes +[\d.]+ [MG]iB( +[\d.]+ [MG]iB){4}$", printed, re.MULTILINE)
    assert re.search(r"^\d  import time; time.sleep\(1\) +1(\.\d)? s ", printed, re.MULTILINE), printed


def test_in_a_terminal_a_panel_cannot_be_docked(tmp_path):
    code = "%load_ext perfmon_widgets\n%perfmon --dock\nimport perfmon_widgets\n"
    printed = in_terminal(tmp_path, code)
    assert "UsageError: a panel is docked in JupyterLab, but this process is not a Jupyter kernel" in printed


def test_in_a_terminal_a_measured_cell_ends_with_an_empty_line(tmp_path):
    code = "%load_ext perfmon_widgets\n%%perfmon\nx = 6\nx * 7\n\n\nprint('next')\n%%perfmon?\n\n\n"
    printed = in_terminal(tmp_path, code)
    assert "Out[2]: 42\n" in printed
    assert len(COST.findall(printed)) == 1
    assert printed.index("RAM peak") < printed.index("next")
    assert "%%perfmon [--interval SECONDS] [-o NAME]" in printed
    assert "then show what it cost" in printed
