"""The attacker's code: a function that makes the requested attack and reports its gains."""
