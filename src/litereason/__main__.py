"""`python -m litereason`."""

import sys

from litereason.cli import main

sys.exit(main())
