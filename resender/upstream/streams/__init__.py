"""Stream connections to the exchange."""
