"""`python -m dlc` is `dlc`."""

import sys

from dlc.cli import main

sys.exit(main())
