"""The modules that a platform's processes run. Command lines name them, so they also identify the processes."""

SUPERVISOR = "rescoldo.supervisor.supervisor"
NODE = "rescoldo.node.main"
CONTROLLER = "rescoldo.assembly.controller"
