"""What the owner is told, when, in which words and by which channel. Pure."""
