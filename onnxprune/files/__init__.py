"""Files in the place of old ones: whole or not at all, several together, named by their content."""
