"""Market data in memory: what is proven, and the bytes of an answer."""
