"""`python -m dompbus.clients.cli`: the command without its installed script."""

import sys

from dompbus.clients.cli.main import main

sys.exit(main())
