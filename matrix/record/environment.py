"""The machine and the environment of a run: what a repeat on the same releases can differ in."""

from collections.abc import Mapping

from matrix.record.model import Record

_FAMILY = ("torch", "torchvision", "torchaudio", "triton", "vllm", "nvidia-")
OWN_PACKAGES = ("torch-vllm-matrix", "matrix-dev", "pip", "setuptools", "wheel", "uv")
"""This project, and what only installs."""


def environment_of(record: Record) -> dict[str, str]:
    """Return the machine, and the packages other than torch's family and this project's own."""
    found = {
        name: version
        for name, version in record.packages.items()
        if not name.startswith(_FAMILY) and name not in OWN_PACKAGES
    }
    for device, name in (("gpu", "name"), ("gpu", "driver"), ("cpu", "model")):
        facts = record.provenance.get(device)
        if isinstance(facts, Mapping) and facts.get(name):
            found[f"the {device}'s {name}"] = str(facts[name])
    if record.provenance.get("os"):
        found["the system"] = str(record.provenance["os"])
    return found


def hardware(record: Record) -> tuple[object, ...]:
    """Return the machine as far as a record knows it; the driver does not count."""
    gpu = record.provenance.get("gpu")
    name = gpu.get("name") if isinstance(gpu, Mapping) else None
    return record.provenance.get("machine"), record.provenance.get("cpu"), name
