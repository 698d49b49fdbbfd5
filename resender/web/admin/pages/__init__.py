"""The HTML pages of the administration and what they load."""
