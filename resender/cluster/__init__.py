"""This node among others: Redis, presence, shared weight."""
