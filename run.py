"""Start Binance Resender. `python run.py --help` tells what else it can do.

`resender/launch.py` looks at Python and the packages, `resender/cli/main.py` is the command line and
`resender/cli/serve.py` runs the server.
"""

import sys

from resender.launch import run

if __name__ == "__main__":
    sys.exit(run())
