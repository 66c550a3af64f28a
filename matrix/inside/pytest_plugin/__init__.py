"""The pytest plugin that runs the startup tests and writes their record."""
