"""Label selectors that are none; tests/support/cluster_contract.py compares the others with an API server's."""

from __future__ import annotations

import pytest

from rescoldo.kube.selector import matches
from rescoldo.model.errors import InvalidInput


@pytest.mark.parametrize("selector", ["a b", "a=b=c", "a in b", "in (a)", "=a", ",", "a,", "a notin (b"])
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(InvalidInput, match=r"label selector: .* is not a requirement"):
        matches(selector, {})
