"""Who may use the platform's own routes: what the edge and the API both check.

The edge refuses requests without a login before it reads their bodies; the API checks every request again.
"""

from __future__ import annotations

import hashlib

# A build is signed, and its client sends no login.
# The edge denies /-/ on the public port; functions carry their own authentication. Paths are compared as they
# were sent: the edge decodes nothing, and so it lets /%2d/metrics pass, which must not be open here.
BUILD_PATH = "/build"
OPEN_PATHS = frozenset({"/", "/healthz", "/-/metrics", BUILD_PATH, "/publickey"})
OPEN_PREFIXES = ("/async-function/",)
REALM = "Restricted"
UNAUTHORIZED = "unauthorized: send the gateway's user and password\n"


def login_key(user: str, password: str) -> str:
    """How the edge knows a login: the SHA-256 of "user:password", in capital hexadecimal digits as HAProxy has it."""
    return hashlib.sha256(f"{user}:{password}".encode()).hexdigest().upper()
