"""The base of every error that a user's input can cause."""


class MatrixError(Exception):
    """One clear line: the file, the key and the fix; the command line exits with 2."""
