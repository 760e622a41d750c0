"""Starts the command: `rescoldo`, or `python -m rescoldo.cli`."""

import sys


def main() -> int:
    """Run the command line and return its exit status, also when Ctrl-C comes during the imports."""
    try:
        from rescoldo.cli.main import main as run  # a tenth of a second
    except KeyboardInterrupt:
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
