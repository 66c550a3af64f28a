"""The answer to an error's text: its meaning, exports and needs of releases, installation.

A text goes through `scan` (a stream of bytes to excerpts), `recognise` (an excerpt to the facts of
a known fault), `faults` (all faults of a text, each once, with its signature) and `answer` (what
the package's data and the records say of a fault). Sentences are made in `matrix.report.explain`.
"""
