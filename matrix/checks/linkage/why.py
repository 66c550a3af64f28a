"""Why an extension does not link, as a fact of `matrix.checks.facts`. Pure."""

from __future__ import annotations

from matrix.checks.facts import LinkCode, LinkFact
from matrix.checks.linkage.link import Linkage, Linked


def link_fact(
    linkage: Linkage, linked: Linked, features: tuple[str, ...] | None = None
) -> LinkFact:
    """Return why an extension of these, which does not load, does not.

    `features` are those that the vLLM is without, where the extension is none of the core.
    """
    if linked.fault is not None:
        code, text = LinkCode.UNREADABLE, linked.fault
        return LinkFact(code=code, extension=linked.name, text=text, features=features)
    if linked.pythons:
        return LinkFact(
            code=LinkCode.OTHER_PYTHON,
            extension=linked.name,
            pythons=linked.pythons,
            python=linkage.python,
            features=features,
        )
    return LinkFact(
        code=LinkCode.NEEDS,
        extension=linked.name,
        library=next(iter(linked.libraries), None),
        torch=linkage.torch,
        instead=linked.instead,
        symbol=next(iter(linked.names), None),
        more=len(linked.names) - 1 if linked.names[1:] else None,
        features=features,
    )


def shared_fact(linked: Linked) -> LinkFact | None:
    """Return what an extension needs first, the same for many torches and Pythons.

    None if it is not for the Python, or could not be read.
    """
    if not linked.is_complete:
        return None
    library = next(iter(linked.libraries), None)
    return LinkFact(
        code=LinkCode.NEEDS,
        extension=linked.name.partition(".")[0],
        library=library,
        symbol=linked.names[0] if library is None else None,
    )
