"""The settings of one platform, and the places of its files.

`rescoldo serve` makes them from its flags and environment, and hands them to its child processes as one JSON file.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rescoldo.durable import replace_private
from rescoldo.model.datadir import data_dir
from rescoldo.model.limits import Limits
from rescoldo.model.names import DEFAULT_NAMESPACE
from rescoldo.model.revision import KEPT_REVISIONS
from rescoldo.model.scaling import ScalingDefaults

SPARES = 6
MOST_SLOTS = 32_000  # about 400 MB of HAProxy


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a platform; paths are absolute."""

    data: str  # data directory, for the files that must survive a reboot
    run: str  # run folder: sockets, pids; made again if it is lost
    gateway: str = "127.0.0.1:8080"  # HOST:PORT of the edge
    metrics: str = "127.0.0.1:8082"  # HOST:PORT of /metrics
    tls_cert: str | None = None  # PEM file of the gateway's certificate; None: the gateway speaks plain HTTP
    tls_key: str | None = None  # PEM file of the private key; None: it is in the certificate's file
    redirect: str | None = None  # HOST:PORT that redirects plain HTTP to the gateway
    basic_auth: bool = True  # for every /system route
    slots: int = 1000  # functions awake at once before the edge is reloaded with more
    gateway_names: bool = True  # functions find the gateway by its names and by variables
    trusted_proxies: tuple[str, ...] = ()  # networks whose X-Forwarded-* headers count; empty: everybody's do
    max_connections: int = 10_000  # clients the edge accepts at once
    max_holds: int = 2000  # cold requests held at once in total
    max_holds_per_function: int = 500
    queue_timeout: float = 30.0  # seconds a request may wait in a function's queue
    max_system_body: int = 256 * 2**20  # bytes of an upload to /system
    limits: Limits = field(default_factory=Limits)  # defaults for functions
    scaling: ScalingDefaults = field(default_factory=ScalingDefaults)
    kept_revisions: int = KEPT_REVISIONS  # of each function, the current one included
    spares: int = SPARES  # sandboxes made in advance, about 5 MB each, so that simultaneous wakes find one each
    spares_memory: int | None = None  # bytes that spares may hold after bursts of wakes; None: a tenth of the machine's
    edge_threads: int = 1  # HAProxy's; each thread counts places and queues alone, so with more, limits are not exact
    drain: float = 0.0  # seconds that a platform serves on after SIGTERM while /healthz says 404; 0: it stops at once
    drain_timeout: float | None = None  # seconds that draining takes at most, the wait for calls included
    join: str | None = None  # URL of the control whose worker this platform is; None: it stands alone
    identity: str | None = None  # of a worker: folder with tls.crt, tls.key, ca.crt and pool-secret
    gateways_tls: str | None = None  # of a worker: HOST:PORT for gateways that speak TLS; None: they speak HTTP alone
    namespace: str = DEFAULT_NAMESPACE  # of a worker: the only one whose functions it runs
    functions_gateway: str | None = None  # of a worker: URL at which its functions call others; None: not told them
    log_functions: bool = False  # print functions' log lines as JSON to the platform's standard output
    max_stale: float | None = None  # of a worker: seconds without its control after which it refuses calls; None: never
    allow_without_landlock: bool = False  # of a worker: it starts though functions could read its identity
    probe_timeout: float = 5.0  # seconds without an answer after which a process counts as hung and is killed

    @property
    def data_path(self) -> Path:
        return Path(self.data)

    @property
    def run_path(self) -> Path:
        return Path(self.run)

    @property
    def scheme(self) -> str:
        """The URL scheme of the gateway."""
        return "http" if self.tls_cert is None else "https"

    @property
    def certificate_files(self) -> tuple[Path, ...]:
        """The files of the certificate that the edge shows, the last of which has the private key; none without TLS."""
        if self.tls_cert is not None:
            return tuple(Path(path) for path in (self.tls_cert, self.tls_key) if path is not None)
        if self.gateways_tls is not None and self.identity is not None:
            return Path(self.identity) / "tls.crt", Path(self.identity) / "tls.key"
        return ()

    @property
    def longest_drain(self) -> float:
        """Seconds that draining takes at most: a call that came at the last moment has the default limit of a call.
        With --drain 3s and calls of 30 s: 33."""
        if not self.drain:
            return 0.0
        return self.drain + self.limits.exec_timeout if self.drain_timeout is None else self.drain_timeout

    # -- files that survive
    @property
    def database(self) -> Path:
        return self.data_path / "rescoldo.db"

    @property
    def bundles(self) -> Path:
        """A folder for each bundle, named by its digest."""
        return self.data_path / "bundles"

    @property
    def environment(self) -> Path:
        """The functions' Python: a virtual environment without packages."""
        return self.data_path / "python"

    @property
    def logs(self) -> Path:
        """The output of functions: a file for each, and its predecessor."""
        return self.data_path / "logs"

    @property
    def secrets(self) -> Path:
        """A folder with basic-auth-user, basic-auth-password and payload-secret, mode 0600."""
        return self.data_path / "secrets"

    @property
    def function_secrets(self) -> Path:
        """Functions' secrets: a folder for each namespace with a file for each secret, mode 0600. A worker has them in
        its run folder, which is in memory."""
        return (self.data_path if self.join is None else self.run_path) / "function-secrets"

    @property
    def known_functions(self) -> Path:
        """What a worker knows of control's functions, for its next controller."""
        return self.data_path / "known"

    @property
    def pool_secrets(self) -> Path | None:
        """What the gateways of a worker's cluster say to it: a secret a line, all of which count."""
        return None if self.identity is None else Path(self.identity) / "pool-secret"

    @property
    def counts(self) -> Path:
        """Counts of calls that a worker has not handed to control yet."""
        return self.data_path / "counts"

    @property
    def record(self) -> Path:
        """These settings, for the next start and for commands that look for the platform; see `last_settings`."""
        return self.data_path / "settings.json"

    @property
    def platform_log(self) -> Path:
        """The log of a platform in the background."""
        return self.data_path / "platform.log"

    # -- runtime files
    @property
    def settings_file(self) -> Path:
        """These settings as JSON, for the platform's processes."""
        return self.run_path / "settings.json"

    @property
    def pid_file(self) -> Path:
        """The pid of the supervisor."""
        return self.run_path / "supervisor.pid"

    @property
    def children_file(self) -> Path:
        """The name and pid of each process of the platform, as JSON, including the guardian and the supervisor."""
        return self.run_path / "children.json"

    @property
    def confirmed_file(self) -> Path:
        """When a worker's control last confirmed what it knows."""
        return self.run_path / "confirmed"

    @property
    def stale_file(self) -> Path:
        """It exists while a worker refuses calls, since what it knows is older than max_stale."""
        return self.run_path / "stale"

    @property
    def draining_file(self) -> Path:
        """It exists while the platform drains."""
        return self.run_path / "draining"

    @property
    def uploads(self) -> Path:
        """Bundles during their upload."""
        return self.data_path / "uploads"

    @property
    def builds(self) -> Path:
        """Running builds for faas-cli, and the cache of their requirements."""
        return self.data_path / "builds"

    @property
    def slots_file(self) -> Path:
        """The edge's number of slots, once the platform has enlarged it."""
        return self.run_path / "slots"

    @property
    def edge(self) -> Path:
        """HAProxy's configuration, Lua and admin socket."""
        return self.run_path / "edge"

    @property
    def admin_socket(self) -> Path:
        """HAProxy's admin socket."""
        return self.edge / "admin.sock"

    @property
    def certificate(self) -> Path:
        """The edge's copy of the gateway's certificate and key (edge/certificate.py)."""
        return self.edge / "gateway.pem"

    @property
    def wake_socket(self) -> Path:
        """The controller's socket on which the edge asks for wakes."""
        return self.run_path / "s" / "wake.sock"

    @property
    def hold_socket(self) -> Path:
        """The socket over which the edge holds calls of sleeping functions; both its ends are the edge's."""
        return self.run_path / "s" / "hold.sock"

    @property
    def api_socket(self) -> Path:
        """The controller's socket for the API, to which the edge forwards requests."""
        return self.run_path / "s" / "api.sock"

    @property
    def log_socket(self) -> Path:
        """The controller's socket for the edge's access log."""
        return self.run_path / "s" / "log.sock"

    @property
    def node_socket(self) -> Path:
        """The node's socket for the controller's orders."""
        return self.run_path / "node.sock"

    @property
    def instances(self) -> Path:
        """The listening sockets of instances; only the edge's uid may enter."""
        return self.run_path / "i"

    @property
    def program_sockets(self) -> Path:
        """A folder for each program that binds a Unix socket of its own."""
        return self.run_path / "u"

    @property
    def instance_state(self) -> Path:
        """The node's state, from which a restarted node adopts running instances."""
        return self.run_path / "n"

    @property
    def scratch(self) -> Path:
        """Folders that instances may write to, if they cannot have their own /tmp."""
        return self.run_path / "t"

    @property
    def cgroups_file(self) -> Path:
        """The places of the platform's cgroups; the node removes the file when it ends in order."""
        return self.run_path / "cgroups.json"

    @property
    def store_copy(self) -> Path:
        """The second copy of the database, while the platform runs."""
        return self.run_path / "store.db"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def save(self, file: Path | None = None) -> None:
        """Write settings_file (or `file`), mode 0600; a reader sees the old text or the new one. Raises OSError."""
        path = file or self.settings_file
        replace_private(path, self.to_json().encode())

    @classmethod
    def load(cls, path: Path) -> Settings:
        """Read a file that `save` wrote. Raises OSError, ValueError, TypeError."""
        return cls.from_json(path.read_text())

    @classmethod
    def from_json(cls, text: str) -> Settings:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("these are not the settings of a platform")
        found["trusted_proxies"] = tuple(found.get("trusted_proxies", ()))
        parts = {"limits": Limits(**found.get("limits", {})), "scaling": ScalingDefaults(**found.get("scaling", {}))}
        return cls(**{**found, **parts})


def default_data_dir() -> Path:
    """Return the data directory of $RESCOLDO_DATA, else of rescoldo below $XDG_DATA_HOME, else of
    ~/.local/share/rescoldo; see `data_dir`."""
    return data_dir(Path(os.environ.get("RESCOLDO_DATA") or user_data_dir() / "rescoldo"))


def user_data_dir() -> Path:
    """Return $XDG_DATA_HOME, else ~/.local/share."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share").absolute()
