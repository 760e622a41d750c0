"""Lists all measurements of an installation on Kubernetes, in the order of the report."""

from __future__ import annotations

import kubernetes_burst
import kubernetes_cold
import kubernetes_first
import kubernetes_many
import kubernetes_neighbours
import kubernetes_rest
import kubernetes_sleeping
import kubernetes_warm

# sleeping and many last: they end control's pod, and with it all bundles
ALL = (
    kubernetes_rest.MEASUREMENT, kubernetes_cold.MEASUREMENT, kubernetes_neighbours.MEASUREMENT,
    *kubernetes_warm.MEASUREMENTS, kubernetes_burst.MEASUREMENT, kubernetes_first.MEASUREMENT,
    kubernetes_sleeping.MEASUREMENT, kubernetes_many.MEASUREMENT,
)  # fmt: skip
