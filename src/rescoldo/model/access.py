"""The rules of access to the platform's own routes, which both the edge and the API check, and to workers.

The edge refuses a request without a login before it reads the body; the API checks every request again.
"""

from __future__ import annotations

import hashlib

# Open although they are the platform's own: a build request is signed instead of carrying a login, and functions
# authenticate their callers themselves. The edge denies /-/ on the public port. Compare paths as the client sent them:
# the edge decodes nothing and lets /%2d/metrics pass, which must not be open here.
BUILD_PATH = "/build"
OPEN_PATHS = frozenset({"/", "/healthz", "/-/metrics", BUILD_PATH, "/publickey"})
OPEN_PREFIXES = ("/async-function/",)
REALM = "Restricted"
UNAUTHORIZED = "unauthorized: send the gateway's user and password\n"
# A worker has no login: every request must say a secret of its pool, in a header that its cluster's gateways send.
POOL_HEADER = "X-Rescoldo-Pool"
UNPROVEN = f"this is a worker of a cluster, and {POOL_HEADER} has no secret of its pool: call the cluster's gateway\n"


def login_key(user: str, password: str) -> str:
    """Return the key of a login at the edge: the SHA-256 of "user:password" in upper-case hex, as HAProxy writes it."""
    return hashlib.sha256(f"{user}:{password}".encode()).hexdigest().upper()
