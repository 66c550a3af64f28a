"""What this machine lacks for cells, before anything is installed or started."""
