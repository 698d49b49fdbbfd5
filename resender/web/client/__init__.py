"""What answers the clients: forwarded calls, answers out of memory, `/local`."""
