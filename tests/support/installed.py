"""An installation in the test cluster: made by `rescoldo kubernetes install`, reached through one of its gateways."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from support.gateway import Gateway
from support.installations import values
from support.testcluster import IMAGE, KUBECONFIG, KubectlFailed, get, kubectl

WORKERS = "app.kubernetes.io/component=worker"  # label
COMMAND = Path(__file__).parents[2] / ".venv/bin/rescoldo"


class Installed(Gateway):
    """The installation in the namespace rescoldo, whose functions are in openfaas-fn."""

    port = 8080
    system_namespace, functions = "rescoldo", "openfaas-fn"

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rl-installed-"))
        self._login: tuple[str, str] | None = None

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def install(self, *flags: str, image: str = IMAGE, **more: Any) -> str:
        """Install, or upgrade; return what the verb prints."""
        file = self.folder / "values.yaml"
        chosen = values(self.system_namespace)
        for part, its in more.items():
            chosen[part] = {**chosen.get(part, {}), **its} if isinstance(its, dict) else its
        file.write_text(yaml.safe_dump(chosen))
        said = self.verb("install", "--image", image, "--values", str(file), "--timeout", "3m", *flags)
        self.choose_gateway()
        return said

    def verb(self, *arguments: str) -> str:
        """Run `rescoldo kubernetes …`; return what it prints."""
        environment = {**os.environ, "KUBECONFIG": str(KUBECONFIG), "HOME": str(self.folder)}
        done = subprocess.run(
            [COMMAND, "kubernetes", *arguments],
            env=environment, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log()}"
        return done.stdout

    def choose_gateway(self) -> None:
        """Talk to a gateway that is ready."""
        self.host = next(pod["status"]["podIP"] for pod in self.pods("gateway") if is_ready(pod))

    def pods(self, part: str) -> list[dict[str, Any]]:
        """The pods of a part that are not being deleted."""
        namespace = self.functions if part == "worker" else self.system_namespace
        found = get("pods", "-n", namespace, "-l", f"app.kubernetes.io/component={part}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def names(self, part: str) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.pods(part)]

    def all_ready(self, part: str, number: int) -> bool:
        pods = self.pods(part)
        return len(pods) == number and all(map(is_ready, pods))

    def run(self, part: str, pod: str, *command: str, container: str = "") -> str:
        """Run a command in a pod."""
        namespace = self.functions if part == "worker" else self.system_namespace
        return kubectl("exec", pod, "-n", namespace, *(("-c", container) if container else ()), "--", *command)

    def login(self) -> tuple[str, str]:
        if self._login is None:
            data = get("secret", "rescoldo-login", "-n", self.system_namespace)["data"]
            user, password = (base64.b64decode(data[f"basic-auth-{part}"]).decode() for part in ("user", "password"))
            self._login = user, password
        return self._login

    def function(self, name: str) -> dict[str, Any]:
        """The Function in the API server."""
        return dict(get("function", name, "-n", self.functions))

    def ready(self, name: str) -> tuple[str, str, str]:
        """Status, reason and message of its condition Ready; empty texts without one."""
        for one in self.function(name).get("status", {}).get("conditions", []):
            if one["type"] == "Ready":
                return one["status"], one["reason"], one["message"]
        return "", "", ""

    def owner(self, name: str) -> str:
        """The pod of the worker that owns a function, as a gateway says when control asks for it."""
        keys = get("secret", "rescoldo-control-keys", "-n", self.system_namespace)["data"]
        key = base64.b64decode(next(iter(keys.values()))).decode()
        headers = {"X-Rescoldo-Control": key, "X-Rescoldo-Key": f"{name}.{self.functions}"}
        return str(self.call("GET", f"/-/owner/system/function/{name}", headers=headers).headers["X-Rescoldo-Worker"])

    def log(self) -> str:
        """The ends of the logs of all parts."""
        found = []
        for namespace, part in ((self.system_namespace, "control"), (self.system_namespace, "gateway"),
                                (self.functions, "worker")):  # fmt: skip
            try:
                found.append(kubectl("logs", "-n", namespace, "-l", f"app.kubernetes.io/component={part}",
                                     "--all-containers", "--prefix", "--tail", "15"))  # fmt: skip
            except KubectlFailed as error:
                found.append(str(error))
        return "\n".join(found)


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


