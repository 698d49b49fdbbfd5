"""What Binance calls things: markets, routes, headers, intervals, streams."""
