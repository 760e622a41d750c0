"""What a kind of function is: the plug-point `Kind`, with one module a kind and one line for it in registry.py.

A *deployment* may ask for a kind itself (`Kind.claims`); else its bundle's manifest decides (deployment.py). Everybody
who treats kinds differently asks here; nobody else compares a kind's name.

Each verb that reads a stack file imports these modules, and the zygote for programs keeps them in memory. So a kind's
module imports the model alone at its top, and what it needs besides where it needs it. What runs in a fork is the
exception: `starter` imports it in the zygote, as a fork finds nothing of the platform any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rescoldo.model.program import Start

if TYPE_CHECKING:
    from rescoldo.model.function import FunctionSpec
    from rescoldo.runtime.starter import Starter

WARM = "warm"  # the zygote that has imported, and practised, what handlers need
BARE = "bare"  # the zygote that has next to nothing: an exec must first let go of what a process has in memory
NODE = "node"  # the node of this machine, among the controller's nodes


class Kind(Protocol):
    """One kind of function."""

    name: str  # in manifests, templates and launches
    styles: tuple[str, ...]  # of its templates and bundles, the usual one first; no two kinds share one
    templates: Mapping[str, str]  # OpenFaaS's templates, which do not say how they run here: their style by name
    handler: str  # in its manifests: the module that is called; empty: there is none
    needs_python: bool  # its own code fits one version of Python; else its requirements alone do
    takes_command: bool  # a new function's entry in stack.yaml gets its template's fprocess and upstream_url
    zygote: str  # its instances are forked from: WARM or BARE
    node: str  # its instances come from: NODE, or the name of another among the controller's
    says_ready: bool  # an instance writes {"ready": true} to its status pipe; else its address is tried
    answers_deadline: bool  # an instance answers 504 itself when a call takes too long; else the edge does
    least_memory: int  # bytes of a limit without which no instance starts

    # -- before a build

    def check_source(self, folder: Path, style: str, command: tuple[str, ...]) -> None:
        """Raise BuildFailed unless a function can run from `folder`; nothing in it is run. `command` is that of the
        deployment, where it is known."""
        ...

    def recognise(self, template: str, context: Path, handler: Path) -> str:
        """The style of a function in the folder `context` of a template that does not say it; empty: it is none of this
        kind. `handler` is the user's folder in it. Raises BuildFailed."""
        ...

    def to_edit(self, folder: Path) -> str:
        """What the author of a new function does first, in the words of `rescoldo new`."""
        ...

    # -- a deployment

    def claims(self, spec: FunctionSpec) -> bool:
        """Whether a deployment is of this kind, whatever its bundle holds."""
        ...

    def read(self, spec: FunctionSpec) -> Start:
        """How instances of a deployment start. Raises InvalidInput naming the key or variable that is bad."""
        ...

    def own_process(self, process: str) -> str:
        """`process`, a deployment's fprocess, as this kind means it; empty where it says nothing here."""
        ...

    def notes(self, spec: FunctionSpec) -> Iterable[str]:
        """One sentence for each setting of a deployment that has no effect on this kind, as in policy/notes.py."""
        ...

    # -- an instance

    def starter(self) -> Starter:
        """Import what instances run, and practise it: called once in each zygote that forks this kind, before it hides
        the platform's modules (runtime/hiding.py). A fork could import them no more."""
        ...

    def advice(self, printed: Iterable[str]) -> str:
        """What to do, found out from what an instance that did not start has printed; empty: nothing is known."""
        ...
