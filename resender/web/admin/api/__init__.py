"""The JSON endpoints of the admin pages."""
