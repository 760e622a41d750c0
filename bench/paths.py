"""Makes the package and the tests' platform importable; run.py imports this before our other modules."""

from __future__ import annotations

import sys
from pathlib import Path

BENCH = Path(__file__).parent
ROOT = BENCH.parent

sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
