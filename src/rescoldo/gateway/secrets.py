"""The secrets between a cluster's parts, as files of a mounted Secret: kubelet replaces them when the Secret changes.

`pools/NAMESPACE`: what a gateway says to workers of a namespace. `control/NAME`: what control says to a gateway; all
are accepted, so that a new one can be introduced before the old one is dropped. `authority/tls.crt`: the certificate of
the authority that has issued the workers' certificates.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rescoldo.model.proof import FORM, is_proof

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of one moment."""

    pools: Mapping[str, str] = field(default_factory=dict, repr=False)  # by namespace
    control: frozenset[str] = field(default_factory=frozenset, repr=False)
    authority: str = ""  # PEM; empty: this gateway cannot speak TLS to workers


def read_secrets(folder: Path) -> Secrets:
    """Read the secrets; what is missing is empty. One that has another form than 16 to 512 letters, digits and
    `.~+/=_-` is left out, and logged by its name."""
    control = frozenset(_read(folder / "control").values())
    return Secrets(_read(folder / "pools"), control, _read_authority(folder / "authority" / "tls.crt"))


def _read_authority(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        log.error("cannot read the authority's certificate %s: %s", path, error)
        return ""


def _read(folder: Path) -> dict[str, str]:
    found = {}
    # names with a dot in front are kubelet's own: links to the present version
    for path in sorted(folder.glob("[!.]*")):
        try:
            value = path.read_text().strip()
        except (OSError, ValueError) as error:
            log.error("cannot read the secret %s: %s", path, error)
            continue
        if is_proof(value):
            found[path.name] = value
        else:
            log.error("the secret %s has not %s", path, FORM)
    return found
