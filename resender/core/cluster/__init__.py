"""Several nodes as one gateway: what they know of each other and how they share what Binance counts by address."""
