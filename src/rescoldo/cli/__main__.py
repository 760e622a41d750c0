"""`python -m rescoldo.cli`"""

import sys

from rescoldo.cli.main import main

sys.exit(main())
