"""What the guide makes of the code and the data when it is built.

`extension.py` is for Sphinx. The other modules are pure, and tests import them without Sphinx.
"""
