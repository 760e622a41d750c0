"""Answers a registry that asks who is there: with a password, or with a token that another server gives for it
(https://distribution.github.io/distribution/spec/auth/token/)."""

from __future__ import annotations

import base64
from urllib.parse import urljoin

import httpx2

from rescoldo.image.challenge import Challenge
from rescoldo.image.credentials import Credentials
from rescoldo.image.protocol import RegistryFailed, RegistryRefused


class Login:
    """The login at one registry."""

    def __init__(self, url: str, registry: str, credentials: Credentials | None, http: httpx2.Client) -> None:
        """`url` is that of the registry's API, `registry` its name, for errors."""
        self._url = url
        self._registry = registry
        self._credentials = credentials or Credentials()
        self._http = http

    def answer(self, challenge: Challenge) -> str:
        """Return the header Authorization that answers `challenge`; empty if the login is refused or there is none.

        Raises RegistryFailed, and RegistryRefused where a password would travel without encryption.
        """
        own = self._credentials
        if challenge.scheme == "basic":
            return _basic(own) if own.user else ""
        realm = urljoin(self._url, challenge.realm)
        if self._url.startswith("https:") and not realm.startswith("https:"):
            raise RegistryRefused(f"{self._registry} wants passwords to go to {realm}, which is not encrypted")
        try:
            found = self._ask(realm, challenge)
            if found.status_code in (401, 403):
                return ""
            found.raise_for_status()
            answer = found.json()
            return f"Bearer {answer.get('token') or answer['access_token']}"
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error) or type(error).__name__
            raise RegistryFailed(f"{self._registry} gives no token at {realm}: {reason}") from error

    def _ask(self, realm: str, challenge: Challenge) -> httpx2.Response:
        own = self._credentials
        if own.identity_token:
            form = {"client_id": "rescoldo", "grant_type": "refresh_token", "refresh_token": own.identity_token}
            return self._http.post(realm, data={**form, "service": challenge.service, "scope": challenge.scope})
        # a blob that is mounted needs two scopes: pull it there, push it here
        asked = {"service": challenge.service, "scope": challenge.scope.split()}
        return self._http.get(realm, params=asked, headers={"Authorization": _basic(own)} if own.user else None)


def _basic(own: Credentials) -> str:
    return f"Basic {base64.b64encode(f'{own.user}:{own.password}'.encode()).decode()}"
