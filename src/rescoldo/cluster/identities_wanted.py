"""What belongs in each of the platform's own Secrets. `values` is what it has; each function returns what is missing,
or no longer good."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from rescoldo.cluster.authority import Authority, Pair, Subject
from rescoldo.cluster.identities_kept import Values
from rescoldo.model.errors import InvalidInput
from rescoldo.model.names import POOL_DOMAIN
from rescoldo.model.password import read_password
from rescoldo.model.proof import FORM, is_proof, new_proof

AUTHORITY, LOGIN = "rescoldo-authority", "rescoldo-login"  # in control's namespace, as the next two
POOLS, CONTROL_KEYS = "rescoldo-pools", "rescoldo-control-keys"
IDENTITY = "rescoldo-identity"  # in each namespace that holds functions
CERTIFICATE, KEY, TRUSTED, PROOFS = "tls.crt", "tls.key", "ca.crt", "pool-secret"  # keys of an identity
USER, PASSWORD, PAYLOAD = "basic-auth-user", "basic-auth-password", "payload-secret"  # keys of the login
DEFAULT_USER = "admin"
FIRST_KEY = "key-1"  # of CONTROL_KEYS


POOL_URI = "rescoldo://pool/"  # then the namespace: in the certificates of its workers


def control_subject(system: str) -> Subject:
    """Whom control's certificate is for; `system` is its namespace."""
    name = "rescoldo-control"
    return Subject(name, hosts=(name, f"{name}.{system}", f"{name}.{system}.svc"))


def pool_subject(namespace: str) -> Subject:
    """Whom the certificate of a pool's workers is for: clients of control, and servers for gateways."""
    return Subject(namespace, hosts=(f"*.{namespace}.{POOL_DOMAIN}",), uris=(POOL_URI + namespace,))


# -- the authority


def authority_wanted(values: Values, ours: bool, known: Authority | None, now: float) -> Values:
    """A new authority where there is none (`known`, if this control has one), and a renewed one for ours that is due.
    Raises InvalidInput for an authority that cannot be read."""
    if CERTIFICATE not in values and KEY not in values:
        return _of_pair((known or Authority.make(AUTHORITY, now)).pair)
    found = authority_of(values)
    return _of_pair(found.renewed(now).pair) if ours and found.is_due(now) else {}


def authority_of(values: Values) -> Authority:
    """Raises InvalidInput, see `Authority`."""
    return Authority(Pair(values.get(CERTIFICATE, b""), values.get(KEY, b"")))


# -- the login


def login_wanted(values: Values, known: Values) -> Values:
    """A user with a password and the secret of builds: those that are `known` here, or new ones. Raises InvalidInput
    for a user without a password and the reverse, and for what is no text."""
    change: dict[str, bytes] = {}
    if USER not in values and PASSWORD not in values:
        made = {USER: DEFAULT_USER.encode(), PASSWORD: secrets.token_urlsafe(32).encode()}
        change |= {key: known.get(key, value) for key, value in made.items()}
    if PAYLOAD not in values:
        change[PAYLOAD] = known.get(PAYLOAD, secrets.token_urlsafe(32).encode())
    login_of({**values, **change})
    return change


def login_of(values: Values) -> tuple[str, str, str]:
    """User, password and the secret of builds. Raises InvalidInput."""
    user, password, payload = (_text(values, key) for key in (USER, PASSWORD, PAYLOAD))
    if ":" in user:
        raise InvalidInput(f"{USER} cannot hold ':' (RFC 7617): write another one")
    return user, password, payload


def _text(values: Values, key: str) -> str:
    try:
        text = read_password(values.get(key, b"").decode())
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{key} is not UTF-8 text: write another one") from error
    if not text:
        raise InvalidInput(f"{key} is missing or empty: write one")
    return text


# -- proofs between gateways, workers and control


def pools_wanted(values: Values, namespaces: Iterable[str], known: Values) -> Values:
    """A proof for each namespace that has none. One that has a bad form stays: see `pool_of`."""
    return {place: known.get(place, new_proof().encode()) for place in namespaces if place not in values}


def pool_of(values: Values, namespace: str) -> str:
    """The proof of a namespace. Raises InvalidInput."""
    proof = _proof(values.get(namespace, b""))
    if not proof:
        raise InvalidInput(
            f"the value of {namespace} has not {FORM}: write another one, or remove it and control makes one"
        )
    return proof


def control_keys_wanted(values: Values, known: str) -> Values:
    """A proof of control where there is none. Raises InvalidInput if none of those there can be used."""
    if not values:
        return {FIRST_KEY: (known or new_proof()).encode()}
    control_key_of(values)
    return {}


def control_key_of(values: Values) -> str:
    """The proof that control says: the first by name, as gateways take all of them. So another one is introduced under
    a later name, and the earlier one is removed once gateways have the later one. Raises InvalidInput."""
    proof = next(filter(None, (_proof(value) for _, value in sorted(values.items()))), "")
    if not proof:
        raise InvalidInput(f"none of its values has {FORM}: write one, or remove all and control makes one")
    return proof


def _proof(value: bytes) -> str:
    """The text of a proof; empty for a value of another form."""
    text = value.decode("ascii", "replace").strip()
    return text if is_proof(text) else ""


# -- the identity of a pool's workers


def identity_wanted(values: Values, namespace: str, authority: Authority, pool: str, now: float) -> Values:
    """Certificate, authority and proof of a pool's workers, as far as they differ. Raises InvalidInput for an authority
    that has ended."""
    change: dict[str, bytes] = {}
    stored, subject = Pair(values.get(CERTIFICATE, b""), values.get(KEY, b"")), pool_subject(namespace)
    renew = not authority.fits(stored, subject, now)
    if renew:
        change |= _of_pair(authority.issue(subject, now))
    if values.get(TRUSTED) != authority.pair.certificate:
        change[TRUSTED] = authority.pair.certificate
    proofs = _proofs(values.get(PROOFS, b""), pool, forget=renew)
    if values.get(PROOFS) != proofs:
        change[PROOFS] = proofs
    return change


def _proofs(stored: bytes, pool: str, *, forget: bool) -> bytes:
    """The proofs that workers accept, one a line: the pool's first, then the one before it, until the certificate is
    renewed: a gateway may hear of a new one later than the workers."""
    lines = [proof for line in stored.splitlines() if (proof := _proof(line))]
    if lines and lines[0] != pool:
        return f"{pool}\n{lines[0]}\n".encode()
    return f"{pool}\n".encode() if forget or not lines else stored


def client_files(uri: str, authority: Authority, now: float) -> Values:
    """The certificate of a client with one URI, and the authority. Raises InvalidInput for one that has ended."""
    issued = authority.issue(Subject(uri.rpartition("/")[2], uris=(uri,)), now)
    return {**_of_pair(issued), TRUSTED: authority.pair.certificate}


def _of_pair(pair: Pair) -> Values:
    return {CERTIFICATE: pair.certificate, KEY: pair.key}
