"""The plug-point `Kind`: what the platform needs to know about a kind of function. One module and one line in
registry.py per kind.

A *deployment* may claim a kind itself (`Kind.claims`); otherwise its bundle's manifest decides (deployment.py). Code
that treats kinds differently asks here; no other code compares the name of a kind.

Every verb that reads a stack file imports these modules, and the zygote for programs keeps them in memory. A kind's
module therefore imports only the model at its top, and everything else inside the function that uses it. Code that
runs in a fork is the exception: `starter` imports it in the zygote, because a fork can no longer import the platform.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rescoldo.model.program import Start

if TYPE_CHECKING:
    from rescoldo.model.function import FunctionSpec
    from rescoldo.runtime.starter import Starter

WARM = "warm"  # the zygote that has imported and practised what handlers need
BARE = "bare"  # the zygote with almost nothing in memory: an exec must first free what its process holds
NODE = "node"  # this machine's own node, among the controller's nodes


class Kind(Protocol):
    """One kind of function."""

    name: str  # in manifests, templates and launches
    styles: tuple[str, ...]  # of its templates and bundles, the usual one first; no two kinds share one
    templates: Mapping[str, str]  # OpenFaaS's templates by name → their style; their files do not state one
    handler: str  # the module to call, for manifests; empty: there is none
    needs_python: bool  # its own code fits one Python version; if False, only its requirements do
    takes_command: bool  # a new function's entry in stack.yaml gets its template's fprocess and upstream_url
    zygote: str  # the zygote that forks its instances: WARM or BARE
    node: str  # the node that runs its instances: NODE, or the name of another node of the controller
    says_ready: bool  # an instance writes {"ready": true} to its status pipe; if False, the node tries its address
    answers_deadline: bool  # an instance answers 504 itself at a call's deadline; if False, the edge does
    least_memory: int  # bytes; no instance starts with a lower memory limit

    # -- before a build

    def check_source(self, folder: Path, style: str, command: tuple[str, ...]) -> None:
        """Raise BuildFailed unless a function can run from `folder`, without running any of it. `command` is the
        deployment's, empty where it is not known."""
        ...

    def recognise(self, template: str, context: Path, handler: Path) -> str:
        """Return the style of a function whose template states none; empty if it is not of this kind. `context` is the
        template's folder, `handler` the user's folder in it. Raises BuildFailed."""
        ...

    def to_edit(self, folder: Path) -> str:
        """Return the first thing the author of a new function should do, as `rescoldo new` prints it."""
        ...

    # -- a deployment

    def claims(self, spec: FunctionSpec) -> bool:
        """Whether a deployment is of this kind, whatever its bundle contains."""
        ...

    def read(self, spec: FunctionSpec) -> Start:
        """Return how instances of a deployment start. Raises InvalidInput naming the invalid key or variable."""
        ...

    def own_process(self, process: str) -> str:
        """Return a deployment's fprocess as this kind understands it; empty where it has no meaning for this kind."""
        ...

    def notes(self, spec: FunctionSpec) -> Iterable[str]:
        """Return one sentence for each setting of a deployment without effect on this kind, as in policy/notes.py."""
        ...

    # -- an instance

    def starter(self) -> Starter:
        """Import and practise what instances run. Called once in each zygote that forks this kind, before the zygote
        hides the platform's modules (runtime/hiding.py); a fork can no longer import them."""
        ...

    def advice(self, printed: Iterable[str]) -> str:
        """Return a remedy, derived from the output of an instance that failed to start; empty if none is known."""
        ...
