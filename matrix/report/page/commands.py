"""The commands that install each pair of the page, packed. Pure.

The page's script puts the parts of a pair into the form that its pair has. The forms are made as
`matrix recommend` makes the commands of one pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matrix.advice.install import Install, environment_of
from matrix.report.page.encoding import coded
from matrix.report.uv_commands import command_line, quoted


def commands(
    installs: Mapping[tuple[str, str], Install],
    torches: Sequence[str],
    vllms: Sequence[str],
    text: Callable[[str | None], int],
) -> dict[str, object]:
    """Return what installs each pair of these releases; `text` returns the place of a text.

    What is required is of the vLLM, what overrides it of the torch, and the backend of the pair.
    """
    required = [_of_vllm(vllm, installs) for vllm in vllms]
    overriding = [_of_torch(torch, installs) for torch in torches]
    backends = (
        install.backend if (install := installs.get((torch, vllm))) else None
        for vllm in vllms
        for torch in torches
    )
    return {
        "commands": [text(form) for form in _forms()],
        "installs": [text(quoted(lines)) for lines in required],
        "overrides": [text(quoted(lines)) for lines in overriding],
        "backends": coded(text(backend) for backend in backends),
    }


def _forms() -> list[str]:
    """Return the commands of a pair with its pin and with another torch, without a backend first.

    An `@` with the name of a part stands for that part.
    """
    return [
        command_line(
            Install(
                environment=environment_of("@vllm", "@torch" if off_pin else None),
                python="@python",
                requirements=("@requirements",),
                overrides=("@overrides",) if off_pin else (),
                backend="@backend" if has_backend else None,
            )
        )
        for off_pin in (False, True)
        for has_backend in (False, True)
    ]


def _of_vllm(vllm: str, installs: Mapping[tuple[str, str], Install]) -> Sequence[str]:
    found = (install.requirements for (_, its), install in installs.items() if its == vllm)
    return next(found, ())


def _of_torch(torch: str, installs: Mapping[tuple[str, str], Install]) -> Sequence[str]:
    """Return what overrides the pins of a vLLM that gets this torch; () where all pin it."""
    found = (install.overrides for (its, _), install in installs.items() if its == torch)
    return next(filter(None, found), ())
