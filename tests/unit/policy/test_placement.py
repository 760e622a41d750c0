"""Constraints on a single machine."""

from __future__ import annotations

import pytest

from rescoldo.model.errors import InvalidInput
from rescoldo.policy.placement import check_constraints


@pytest.mark.parametrize(
    "constraint",
    [
        "kubernetes.io/arch=amd64",
        "kubernetes.io/arch=x86_64",
        "node.kubernetes.io/arch = AMD64",
        "beta.kubernetes.io/arch=amd64",
        "kubernetes.io/os=linux",
        "node.platform.os == linux",
        "node.platform.arch != arm64",
        # for clusters, without effect here
        "node.kubernetes.io/instance-type=m5.large",
        "arch=arm64",
        "gpu",
        "",
        "=",
        "kubernetes.io/arch",
        "a=b=c",
    ],
)
def test_a_constraint_that_is_met_or_has_no_effect_here_is_allowed(constraint: str) -> None:
    check_constraints([constraint], "x86_64", "Linux")


@pytest.mark.parametrize(
    ("constraint", "here"),
    [
        ("kubernetes.io/arch=arm64", "kubernetes.io/arch=amd64"),
        ("node.kubernetes.io/arch=aarch64", "node.kubernetes.io/arch=amd64"),
        ("kubernetes.io/os=windows", "kubernetes.io/os=linux"),
        ("node.platform.os != linux", "node.platform.os=linux"),
    ],
)
def test_a_constraint_that_this_machine_does_not_meet_is_refused(constraint: str, here: str) -> None:
    with pytest.raises(InvalidInput, match=f"this machine has {here};") as caught:
        check_constraints(["a=b", constraint], "x86_64", "Linux")
    assert repr(constraint) in caught.value.message


def test_an_arm_machine_matches_both_of_its_names() -> None:
    check_constraints(["kubernetes.io/arch=arm64", "kubernetes.io/arch=aarch64"], "aarch64", "Linux")
    with pytest.raises(InvalidInput):
        check_constraints(["kubernetes.io/arch=amd64"], "aarch64", "Linux")
