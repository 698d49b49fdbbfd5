"""Run the gateway with a weight minute of another length: `cache_minute.py MILLISECONDS`.

For cold_start.py alone. Only the constant that cuts the exchange's time into weight windows is
changed; share, limits, reads and pace are the program's own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import resender.core.market.costs

if __name__ == "__main__":
    resender.core.market.costs.MINUTE_MS = int(sys.argv[1])
    from resender.cli.main import main

    sys.exit(main([]))
