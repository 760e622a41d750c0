"""The controller's main program: `python -m rescoldo.assembly.controller SETTINGS_FILE`.

Little is imported before `main`: it says how the rest is.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from rescoldo.isolation import heap
from rescoldo.model.messages import log_to_stderr
from rescoldo.model.settings import Settings


def main() -> int:
    """Run the controller; return the exit status."""
    heap.settle()
    log_to_stderr("%(levelname)s %(name)s: %(message)s")
    # The imports make 100,000 objects, and all but 900 of them stay: no collection need look at them, now or later.
    # That saves 0.1 s of 0.6.
    gc.disable()
    from rescoldo.assembly.controller_process import run

    gc.freeze()
    gc.enable()
    return run(Settings.load(Path(sys.argv[1])))


if __name__ == "__main__":
    sys.exit(main())
