"""The commands of `matrix`: a module for each group, which makes their parsers and does them.

Each command imports what it needs when it runs, so that `matrix run` works in any cell.
"""
