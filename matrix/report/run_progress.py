"""What is said of a run while it goes on. Pure."""

from __future__ import annotations

from matrix._util.text import clean
from matrix.run.stage import Stage

LINKED = "(uv's cache has the rest)"


def duration(seconds: float) -> str:
    """Return a time as people read it.

    >>> duration(12.4), duration(754), duration(8000)
    ('12 s', '13 min', '2 h 13 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def disk(mib: int) -> str:
    """Return a size on disk, roughly.

    >>> disk(10 * 1024), disk(600)
    ('about 10 GB', 'about 600 MB')
    """
    return f"about {mib / 1024:.0f} GB" if mib >= 1024 else f"about {mib} MB"


def whole_install_words(mib: int, seconds: float, *, linked: bool) -> str:
    """Return what an environment takes that is to be made: disk and time.

    >>> whole_install_words(10 * 1024, 150, linked=False)
    'about 10 GB, some minutes'
    >>> whole_install_words(600, 20, linked=True)
    "about 600 MB (uv's cache has the rest), about 20 s"
    """
    time = "some minutes" if seconds >= 60 else f"about {duration(seconds)}"
    return f"{disk(mib)}{chr(32) * linked}{LINKED * linked}, {time}"


def installing_words(seconds: float, mib: int) -> str:
    """Return what is said while an environment is made.

    >>> installing_words(29.6, 3500), installing_words(9.1, 3)
    ('installs, 30 s, about 3 GB of disk so far', 'installs, 9 s')
    """
    so_far = f", {disk(mib)} of disk so far" if mib >= 50 else ""
    return f"installs, {seconds:.0f} s{so_far}"


def stage_words(stage: Stage | None) -> str:
    """Return where a run stands: `[3/9] moe_startup[mega_aot=1] warm`."""
    if stage is None:
        return "begins"
    if stage.cases:
        of = "?" if stage.total is None else stage.total
        more = f" and {len(stage.cases) - 1} more" if len(stage.cases) > 1 else ""
        start = f" {stage.start}" if stage.start and not more else ""
        return f"[{stage.number}/{of}] {clean(stage.cases[0])}{start}{more}"
    if not stage.imported:
        return "imports torch and vLLM"
    if stage.total is not None and stage.ended < stage.total:
        return f"[{stage.ended}/{stage.total}] prepares its cases"
    return "comes to its end" if stage.total else "prepares its cases"


def alone_words(stage: Stage, seconds: float) -> str:
    """Return the line of a cell that runs alone, of what is known of its own run."""
    left = ""
    if stage.total and stage.ended:
        rest = seconds / stage.ended * (stage.total - stage.ended)
        left = f", about {duration(rest)} left"
    return f"{stage_words(stage)}, {seconds:.0f} s{left}"
