"""The parsed values of flags that several verbs share; `options.py` declares the flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects functions: those of a stack file, or one function described by flags."""

    yaml_file: str = ""
    names: tuple[str, ...] = ()
    glob: str = ""
    regex: str = ""
    image: str = ""
    name: str = ""
    lang: str = ""
    handler: str = ""


@dataclass(frozen=True, slots=True)
class DeployFlags:
    """Overrides a function's own settings."""

    namespace: str
    fprocess: str
    env: tuple[str, ...]
    label: tuple[str, ...]
    annotation: tuple[str, ...]
    secret: tuple[str, ...]
    constraint: tuple[str, ...]
    memory_limit: str
    cpu_limit: str
    memory_request: str
    cpu_request: str
    readonly: bool
    update: bool | None  # None: not given, which means yes
    replace: bool


@dataclass(frozen=True, slots=True)
class GatewayFlags:
    """Names a gateway: by flag, environment or stack file."""

    yaml_file: str
    gateway: str
    tls_no_verify: bool
    token: str


@dataclass(frozen=True, slots=True)
class Destination:
    """Names the gateway to deploy to, and the local platform to start if no gateway answers there."""

    gateway: str
    tls_no_verify: bool
    token: str
    data: Path | None
    metrics_address: str
    no_start: bool
