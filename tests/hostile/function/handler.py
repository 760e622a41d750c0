"""The attacker as a function: a call's body names the attack."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

if __package__ == "function":  # deployed: its bundle contains the parts of rescoldo that attacks need
    sys.path[:0] = [os.path.dirname(__file__)]
from . import bombs, environment, files, ipc, kernel, network, processes, programs  # noqa: F401 - they register
from .kit import perform


def handle(event: Any, context: Any) -> str:
    """Make the attack that the body names: {"attack": NAME, "target": {…}}."""
    order = json.loads(event.body)
    return json.dumps(perform(order["attack"], order["target"]))
