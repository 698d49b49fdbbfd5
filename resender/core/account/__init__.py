"""Accounts: orders, balances and positions out of snapshots and events, and whose calls they may answer."""
