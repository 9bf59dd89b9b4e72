"""`python docker/local up`: the servers without Docker. See `servers/__init__.py`."""

import sys

from servers.cli import main

sys.exit(main())
