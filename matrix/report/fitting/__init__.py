"""Reports in as many columns as a terminal has: prose, commands and aligned tables."""
