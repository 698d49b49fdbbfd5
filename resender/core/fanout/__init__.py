"""Rules of the streams for clients: pure, no socket and no loop."""
