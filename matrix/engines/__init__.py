"""Where cells run. Today: on this machine, in the environment that asked for it (`local`)."""

__all__: list[str] = []
