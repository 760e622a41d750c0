"""How much slower than a machine of its own the tests are run."""

import os

# scripts/cgroup2 sets it where the processor is emulated; what is waited for gets so many times its usual seconds
SLOWNESS = float(os.environ.get("RESCOLDO_TEST_SLOWNESS", "1"))
