"""The fence around the TCP ports of a platform's instances."""

from __future__ import annotations

import logging

from rescoldo.isolation.identity import level
from rescoldo.isolation.netfence import Fence
from rescoldo.model.settings import Settings

FENCED = "RESCOLDO_FENCED"  # variable: the supervisor holds a fence, which outlives its children

_LOG = logging.getLogger(__name__)


def put_up(settings: Settings) -> Fence | None:
    """Instances get their TCP ports to themselves and no way to the metrics; None, with a warning, where that is not
    possible."""
    if level() != "full":
        return None
    host, _, port = settings.metrics.rpartition(":")
    try:
        return Fence.open([(host.strip("[]"), int(port))])
    except OSError as error:
        _LOG.warning("TCP ports of programs are not private here: %s", error)
        return None
