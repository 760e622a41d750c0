"""The attacker as a function: a call's body names the attack."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

sys.path[:0] = [os.path.dirname(__file__)]  # what of rescoldo it brings along
from . import bombs, environment, files, ipc, kernel, network, processes, programs  # noqa: E402, F401 - they register
from .kit import perform  # noqa: E402


def handle(event: Any, context: Any) -> str:
    """Do the attack that the body asks for: {"attack": NAME, "target": {…}}."""
    order = json.loads(event.body)
    return json.dumps(perform(order["attack"], order["target"]))
