"""What each call costs, as tables of text."""
