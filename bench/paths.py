"""Makes the package and the tests' platform importable; run.py imports this before anything of theirs."""

from __future__ import annotations

import sys
from pathlib import Path

BENCH = Path(__file__).parent
ROOT = BENCH.parent

sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
