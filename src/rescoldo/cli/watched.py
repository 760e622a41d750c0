"""Deploys a function each time its author saves it; reports failures and restores the previous deployment."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from rescoldo.cli.deploying import deploy_one
from rescoldo.cli.deployment import function_url
from rescoldo.cli.flags import DeployFlags
from rescoldo.cli.gateway import Gateway, GatewayClosed
from rescoldo.cli.notes import tell_notes
from rescoldo.cli.output import note, say
from rescoldo.cli.project import Project, build_one, with_flags
from rescoldo.kinds.deployment import policy_of
from rescoldo.model.errors import NotStarted, RescoldoError, RolloutFailed
from rescoldo.model.function import FunctionSpec
from rescoldo.stack.file import StackFunction


class Report:
    """Reports to the author, in lines of text or in JSON for a script."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def watching(self, project: Project) -> None:
        names = [function.name for function in project.functions]
        self._say({"event": "watching", "names": names}, f"Watching {', '.join(names)}; press Ctrl-C to stop.")

    def deployed(self, name: str, url: str, seconds: float | None) -> None:
        """Report a deployment; `seconds` lead from the save until the new code could answer, None: nothing was
        saved."""
        since = "" if seconds is None else f", {seconds:.2f} s after the save"
        event: dict[str, object] = {"event": "deployed", "name": name, "url": url, "seconds": seconds}
        self._say(event, f"{name}: serving{since}\n  {url}")

    def unchanged(self, name: str) -> None:
        self._say({"event": "unchanged", "name": name}, f"{name}: saved, unchanged")

    def failed(self, name: str, problem: str, *, serving: bool) -> None:
        after = "the previous revision keeps serving" if serving else "no revision serves yet"
        self._say({"event": "failed", "name": name, "problem": problem, "serving": serving}, f"{problem}\n  {after}")

    def _say(self, event: dict[str, object], text: str) -> None:
        if self._as_json:
            say(json.dumps(event, ensure_ascii=False))
        elif event["event"] == "failed":
            note(text)
        else:
            say(text)


@dataclass(frozen=True, slots=True)
class _Serving:
    """A function's last working deployment."""

    spec: FunctionSpec
    digest: str  # empty: this machine did not build it, so the deployment ran the gateway's bundle of that name


class WatchedDeployments:
    """Builds, deploys and wakes functions, and remembers the last working deployment of each."""

    def __init__(self, gateway: Gateway, flags: DeployFlags, report: Report, *, fresh: bool) -> None:
        self._gateway = gateway
        self._flags = flags
        self._report = report
        self._fresh = fresh
        self._serving: dict[str, _Serving] = {}

    def first(self, project: Project) -> None:
        """Deploy all functions and report failures. Raises GatewayClosed, which no save could repair."""
        for function in project.functions:
            try:
                self._deploy(project, function, None)
            except GatewayClosed:
                raise
            except RescoldoError as error:
                self.refused(function.name, error)

    def again(self, project: Project, functions: list[StackFunction], saved_at: float) -> None:
        """Deploy `functions` after a save at `saved_at` (Unix seconds) and report failures."""
        for function in functions:
            try:
                self._deploy(project, function, saved_at)
            except RescoldoError as error:
                self.refused(function.name, error)

    def refused(self, name: str, error: RescoldoError) -> None:
        """Report that a deployment of `name` failed, and whether a previous one serves."""
        self._report.failed(name, error.message, serving=name in self._serving)

    def _deploy(self, project: Project, function: StackFunction, saved_at: float | None) -> None:
        try:
            bundle = build_one(function, project, fresh=self._fresh, quiet=True)
        except RescoldoError as error:
            return self.refused(function.name, error)
        before = self._serving.get(function.name)
        spec = self._spec(function)
        now = _Serving(spec, bundle.digest if bundle is not None else "")
        if now == before:
            return self._report.unchanged(function.name)
        try:
            deployed = deploy_one(self._gateway, function, self._flags)
        except RolloutFailed as error:  # the gateway tried the revision and kept the serving one
            return self._report.failed(function.name, error.message, serving=not isinstance(error, NotStarted))
        try:
            self._wake(spec)
        except RescoldoError as error:
            if before is not None:  # the gateway did not check this roll-out, so its faulty code is current
                self._restore(before, error)
            return self.refused(function.name, error)
        self._serving[function.name] = now
        if before is None or before.spec != spec:
            tell_notes(spec.name, deployed.notes)
        seconds = None if saved_at is None else round(time.time() - saved_at, 3)
        return self._report.deployed(function.name, function_url(self._gateway, spec), seconds)

    def _spec(self, function: StackFunction) -> FunctionSpec:
        return with_flags(function, self._flags).to_spec()

    def _wake(self, spec: FunctionSpec) -> None:
        """Start an instance, so that an error in the handler's imports shows now and not at the next call."""
        body = {"serviceName": spec.name, "namespace": spec.namespace, "replicas": policy_of(spec).woken}
        path = f"/system/scale-function/{spec.name}"
        self._gateway.system("POST", path, params={"namespace": spec.namespace}, json=body)

    def _restore(self, before: _Serving, reason: RescoldoError) -> None:
        """Roll back to the working deployment. Raises RescoldoError that includes `reason` if that fails."""
        name = before.spec.name
        try:
            self._gateway.system(
                "POST", f"/system/function/{name}/rollback", params={"namespace": before.spec.namespace}, json={}
            )
        except RescoldoError as error:
            del self._serving[name]
            text = f"{reason.message}\nand the previous deployment could not be restored: {error.message}"
            raise RescoldoError(text) from error
