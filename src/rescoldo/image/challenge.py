"""How a registry asks who is there (RFC 9110, section 11.6.1), and where it has a client fetch its token
(https://distribution.github.io/distribution/spec/auth/token/)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """A header WWW-Authenticate of the scheme `Bearer` or `Basic`."""

    scheme: str  # bearer or basic
    realm: str = ""  # for Bearer: the URL that gives tokens
    service: str = ""
    scope: str = ""  # repository:me/rescoldo:pull,push

    def to_read(self, repository: str) -> Challenge:
        """Return the challenge with a scope: some registries name none (containerd's pull request 1465)."""
        return self if self.scope else replace(self, scope=f"repository:{repository}:pull")

    def to_write(self, repository: str) -> Challenge:
        """Return the challenge with a scope that allows to write to `repository`, whatever the registry names."""
        others = [one for one in self.scope.split() if one.split(":")[1:2] != [repository]]
        return replace(self, scope=" ".join([f"repository:{repository}:pull,push", *others]))


def read_challenge(header: str) -> Challenge | None:
    """Return what the header asks for; None for a scheme that no registry uses."""
    scheme, _, rest = header.strip().partition(" ")
    values = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(rest)}
    if scheme.lower() == "bearer" and values.get("realm"):
        return Challenge("bearer", values["realm"], values.get("service", ""), values.get("scope", ""))
    return Challenge("basic") if scheme.lower() == "basic" else None
