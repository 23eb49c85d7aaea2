"""Which line of a cell names it."""

from __future__ import annotations

import pytest

from perfmon_widgets.views.source import telling_line


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("model.fit(x)", "model.fit(x)"),
        ("\n\n   model.fit(x)  \nmodel.score(x)", "model.fit(x)"),
        ("%%perfmon\nmodel.fit(x)", "model.fit(x)"),
        ("%%perfmon --interval 0.1\n%%time\nimport time, numpy as np\n\nmodel.fit(x)", "model.fit(x)"),
        ("%load_ext perfmon_widgets\n?model\n# Train it.\nmodel.fit(x)", "model.fit(x)"),
        ("%cd data\n!python train.py\nmodel.fit(x)", "!python train.py"),
        ("from torch import (\n    nn,  # layers\n    optim,\n)  # done\nmodel.fit(x)", "model.fit(x)"),
        ("from torch import (nn, optim)\nmodel.fit(x)", "model.fit(x)"),
        ("from torch import nn, \\\n    optim\nmodel.fit(x)", "model.fit(x)"),
        ("import time; import math\nmodel.fit(x)", "model.fit(x)"),
        ("import time; time.sleep(1)", "import time; time.sleep(1)"),
        ("importance = model.fit(x)", "importance = model.fit(x)"),
        ("import x\n%time model.fit(x)", "%time model.fit(x)"),
        ("for name in names:\n    import name", "for name in names:"),
        # There is no such line.
        ("import time, numpy as np\nimport math", "import time, numpy as np"),
        ("%%perfmon\nimport time", "import time"),
        ("from torch import (\n    nn,\n)", "from torch import ("),
        ("%perfmon cells -o costs", "%perfmon cells -o costs"),
        ("%load_ext autoreload\n%autoreload 2", "%load_ext autoreload"),
        ("# later", "# later"),
        ("%%bash\nls", "ls"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_a_cell_is_named_by_its_first_line_that_is_neither_magic_nor_import(source, line):
    assert telling_line(source) == line
