"""``python -m CTDiffusionLogic``: the ``ctdiffusion`` command where no script is installed."""

import sys

from CTDiffusionLogic.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
