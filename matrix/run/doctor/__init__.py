"""Checks of this machine for cells, before anything is installed or started."""
