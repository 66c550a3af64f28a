"""The catalog: releases, cells and their names, the package index, the writer of tox.ini."""
