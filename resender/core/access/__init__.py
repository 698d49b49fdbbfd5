"""Who may call, and who was refused."""
