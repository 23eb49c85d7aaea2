"""The live page of a program whose names are an attack, in a real browser."""

from __future__ import annotations

from page_of_program import started
from playwright.sync_api import expect

ATTACK = "</script></text></svg><img src=x onerror=hacked=1><script>hacked=1</script>\"'><b onclick=hacked=1>"
PROGRAM = f"""
import time
from perfmon_widgets import Metric, PerformanceMonitor, serve
from perfmon_widgets.core.spans import Span

ATTACK = {ATTACK!r}

class Machine:
    metrics = [
        Metric("cpu_percent", "percent", "cpu", ATTACK, label=ATTACK, source=ATTACK),
        Metric("broken_percent", "percent", "cpu", "", label=ATTACK),
        *(Metric(f"gpu{{gpu}}/utilization_percent", "percent", "gpu", ATTACK, label=f"GPU {{gpu}} {{ATTACK}}")
            for gpu in range(4)),
        Metric("x_percent", "percent", ATTACK, "", label=ATTACK),
    ]

    def collect(self):
        return {{each.name: 50.0 for each in self.metrics if each.name != "broken_percent"}}

class Broken:
    metrics = [Metric("y_percent", "percent", "cpu", "")]

    def collect(self):
        raise OSError(ATTACK)

monitor = PerformanceMonitor([Machine(), Broken()], interval=0.25)
monitor.start()
print(serve(monitor).page_url, flush=True)
monitor.record(**{{"constructor": 1.0, "__proto__": 2.0}})
with monitor.span(ATTACK):
    while True:
        monitor.mark(ATTACK)
        time.sleep(1)
"""


def test_names_are_text(chromium, tmp_path):
    with started(chromium, PROGRAM, tmp_path) as (_, page):
        expect(page.locator(".figures svg").first).to_be_visible()
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        expect(page.locator("details .figures:empty")).to_have_count(0)
        page.wait_for_timeout(2500)
        assert page.evaluate("typeof hacked") == "undefined"
        assert page.locator("img, body script, b[onclick], [onerror]").count() == 0
        # All of it is there, as text.
        assert ATTACK in page.locator("summary").all_inner_texts()
        assert ATTACK in page.locator("#sections table th").all_inner_texts()
        expect(page.locator("figcaption", has_text=ATTACK).first).to_be_visible()
        assert ATTACK in page.locator("tr[data-column=y_percent]").get_attribute("title")
        assert any("</script>" in each for each in page.locator("svg text").all_text_contents())
        # These are no names of what every object of JavaScript has.
        for name in ("constructor", "__proto__"):
            row = page.locator(f"tr[data-column={name}]")
            expect(row.locator("td").first).to_have_text(str(1 if name == "constructor" else 2))
            assert "function" not in row.get_attribute("title")


def test_the_token_is_in_no_address_that_the_browser_keeps(chromium, tmp_path):
    with started(chromium, PROGRAM, tmp_path) as (_, page):
        expect(page.locator(".figures svg").first).to_be_visible()
        assert page.url.endswith("/perfmon")
        entries = page.evaluate("navigation.entries().map(({ url }) => url)")
        assert entries
        assert not [each for each in entries if "token" in each]
        assert page.evaluate("document.referrer") == ""
        loaded = page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name)")
        assert loaded
        assert not [each for each in loaded if "token" in each]
        assert page.evaluate("document.cookie") == ""  # no script sees it
        [cookie] = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
