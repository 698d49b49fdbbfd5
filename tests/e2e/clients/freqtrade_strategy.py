"""A strategy of freqtrade that buys at once, holds, and writes down which candles it was shown.

Put by tests/e2e/test_more_clients.py into a folder of freqtrade's own; run by freqtrade itself.
"""

import json
import time
from pathlib import Path

from freqtrade.strategy import IStrategy


class SeesCandles(IStrategy):
    INTERFACE_VERSION = 3
    timeframe = "1m"
    minimal_roi = {"0": 10}  # noqa: RUF012 - the way freqtrade has it
    stoploss = -0.99
    startup_candle_count = 30

    def populate_indicators(self, dataframe, metadata):
        last = dataframe.tail(5)
        rows = [
            [int(date.timestamp() * 1000), *values]
            for date, *values in zip(
                last["date"],
                last["open"],
                last["high"],
                last["low"],
                last["close"],
                last["volume"],
                strict=True,
            )
        ]
        seen = {"pair": metadata["pair"], "at_ms": time.time_ns() // 1_000_000, "rows": rows}
        with (Path(self.config["user_data_dir"]) / "seen").open("a") as file:
            file.write(json.dumps(seen) + "\n")
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe["enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe
