"""`python -m crossband`."""

import sys

from crossband.cli import main

sys.exit(main())
