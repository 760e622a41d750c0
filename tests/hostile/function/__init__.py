"""The attacker's code: a function that does the attack it is asked for and tells what it got."""
