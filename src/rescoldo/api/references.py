"""Finds the function or namespace that a request names.

Clients, and even their versions, differ in where they put the namespace: into the query, into the body, or after the
function's name (`NAME.NAMESPACE`). Each place counts. A request with two different namespaces is refused: to act on
either would be a guess, and might remove the wrong function.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from rescoldo.model.errors import InvalidInput
from rescoldo.model.names import DEFAULT_NAMESPACE, FunctionId, check_name, function_id

_SHOWN = 80  # characters of a name that an error repeats


def _in_query(request: Request, namespace: str = "") -> str:
    """The query's namespace. Raises InvalidInput for two that differ: FastAPI alone would take the last one."""
    return _agreed(*request.query_params.getlist("namespace"))


InQuery = Annotated[str, Depends(_in_query)]
"""The namespace in a request's query; empty when the query has none."""


def reference(name: str, *namespaces: str) -> FunctionId:
    """The function of NAME or NAME.NAMESPACE, with the non-empty `namespaces` given beside it. Raises InvalidInput for
    a bad name, and when two namespaces differ."""
    own, _, behind = name.rpartition(".") if "." in name else (name, "", "")
    if "." in name and not behind:
        raise InvalidInput(f"function name {name[:_SHOWN]!r} is not valid: a namespace follows the dot")
    return function_id(check_name(own), check_name(_agreed(behind, *namespaces) or DEFAULT_NAMESPACE, "namespace"))


def same_function(path: str, body: str, *namespaces: str) -> FunctionId:
    """The function in a route's path, which the body may name again. Raises InvalidInput as `reference` does, and when
    path and body name two functions."""
    found = reference(path, _behind(body), *namespaces)
    if body and reference(body, _behind(path), *namespaces) != found:
        raise InvalidInput(f"the path names function {path[:_SHOWN]!r} and the body {body[:_SHOWN]!r}")
    return found


def namespace_of(*namespaces: str) -> str:
    """The namespace that a request gives in one or several places, else the default one. Raises InvalidInput when two
    differ."""
    return _agreed(*namespaces) or DEFAULT_NAMESPACE


def _behind(name: str) -> str:
    return name.rpartition(".")[2] if "." in name else ""


def _agreed(*namespaces: str) -> str:
    given = list(dict.fromkeys(filter(None, namespaces)))
    if len(given) > 1:
        raise InvalidInput(
            f"the request names two namespaces, {given[0][:_SHOWN]!r} and {given[1][:_SHOWN]!r} (query, body, or after "
            "the dot in the function's name); name one"
        )
    return given[0] if given else ""
