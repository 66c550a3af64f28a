"""A tox-driven compatibility matrix for torch and vLLM."""

from typing import TYPE_CHECKING

__version__: str
"""The version of the distribution `torch-vllm-matrix`; `0+unknown` where it is not installed."""

if not TYPE_CHECKING:  # mypy would take it for the attributes that a typo names, too

    def __getattr__(name: str) -> str:
        # On demand: importlib.metadata would take a quarter of the time of `matrix --help`.
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("torch-vllm-matrix")
        except PackageNotFoundError:
            return "0+unknown"
