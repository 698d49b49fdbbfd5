"""Which egress takes a call, and what it may still spend."""
