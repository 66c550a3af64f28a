"""What exists: releases, cells and their names, the package index, and the writer of tox.ini."""
