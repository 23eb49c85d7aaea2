"""Cells that take all the memory there is. They need ``np``, ``pd``, ``json``, ``time`` and ``LIMIT``."""

from __future__ import annotations

PATTERNS = {
    "one large array": "kept = np.ones(LIMIT // 8)",
    "many arrays": "kept = []\nwhile True: kept.append(np.ones(300_000))",
    "strings": "kept = []\nwhile True: kept.append('x' * 1000 + str(len(kept)))",
    "small objects": "kept = {}\nfor number in range(10**9): kept[number] = [number] * 10",
    "concat": "kept = pd.DataFrame(np.ones((1000, 100)))\nwhile True: kept = pd.concat([kept, kept])",
    "zeros that are filled later": (
        "first = np.zeros(LIMIT * 56 // 800); kept = np.zeros(LIMIT * 56 // 800)\nfirst[:] = 1; kept[:] = 1"
    ),
    "a buffer that grows": "kept = bytearray()\nwhile True: kept += b'x' * 1_000_000",
    "variables of a function": (
        "def fill():\n    mine = []\n    while True: mine.append(list(range(1000)))\nfill()"
    ),
    "parsed JSON": (
        "text = '[' + ','.join('{\"a\": %d, \"b\": \"text\"}' % n for n in range(LIMIT // 120)) + ']'\n"
        "kept = [json.loads(text) for _ in range(20)]"
    ),
}
"""Each by its name; what it keeps, it keeps in ``kept``."""

LATE = """
kept = [np.zeros(LIMIT // 40) for _ in range(3)]
time.sleep(2.2)
kept += [np.zeros(LIMIT // 40) for _ in range(3)]
for array in kept:
    for start in range(0, len(array), 32768):
        array[start : start + 32768] = 1
        time.sleep(0.001)
"""
"""Memory that was reserved before, and is touched after the limit was raised: nothing can be refused then.

The guard looks fifty times a second. Between the share at which it interrupts and the end there are only
24 MB here; a loop without pauses fills them in less than 10 ms, and wins now and then on a busy machine.
"""

GIVE_BACK = "kept = first = mine = text = None; gc.collect()"
"""Deletes what they keep; needs ``gc``."""
