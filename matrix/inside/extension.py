"""Import one extension after torch, and say in one line what became of it: a program of its own."""

import importlib.machinery
import importlib.util
import sys

import torch  # noqa: F401


def main(path: str, name: str) -> None:
    """Print `loads`, or exit with what the dynamic loader says."""
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    try:
        loader.create_module(spec)
    except ImportError as error:
        # Some only register operators as they are loaded, and are not Python modules.
        if "does not define module export function" not in str(error):
            sys.exit(str(error))
    sys.stdout.write("loads\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
