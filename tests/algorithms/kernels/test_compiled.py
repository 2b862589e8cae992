"""What kernels cost those that do not compute, and where their machine code is kept."""

from __future__ import annotations

import subprocess
import sys

from gossamer.algorithms.kernels import choose
from gossamer.algorithms.kernels.compiled import SOURCES


def test_who_only_reads_loads_no_compiler() -> None:
    code = "import sys, gossamer.algorithms; print(*(name for name in ('numba', 'llvmlite') if name in sys.modules))"

    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=55, check=True)

    assert outcome.stdout.split() == []


def test_a_kernel_is_kept_under_a_name_that_changes_with_any_kernels_source() -> None:
    name = choose.choose.__name__, choose.choose.__qualname__

    assert name[1].startswith("choose_")
    assert len(name[1]) == len("choose_") + 12
    assert {"lanes.py", "butterflies.py", "threefry.py", "choose.py"} <= {path.name for path in SOURCES}
