"""`python -m crossband`."""

import sys

from crossband.cli.main import main

sys.exit(main())
