"""What torch and vLLM only log: the texts are of their own sources."""

import logging

import pytest

from matrix.inside.events import Events, kind_of
from matrix.record.model import EVENT_LIMIT, EVENTS_LIMIT, EventKind

VLLM = "vllm.compilation."
INDUCTOR = "torch._inductor."
AUTOGRAD = "torch._functorch._aot_autograd.autograd_cache"
W, INFO, E, D = logging.WARNING, logging.INFO, logging.ERROR, logging.DEBUG


def logged(name: str, level: int, template: object, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(name, level, "a.py", 1, template, arguments, None)


SAID = [
    # vLLM 0.16, 0.17 to 0.30, 0.32 on
    (VLLM + "decorators", W, "Cannot load aot compilation from path %s, error: %s", "load_failed"),
    (
        VLLM + "decorators",
        W,
        "Compiling model again due to a load failure from %s, reason: %s",
        "load_failed",
    ),
    (
        VLLM + "decorators",
        W,
        "%sCompiling model again due to a load failure from %s, reason: %s",
        "load_failed",
    ),
    (VLLM + "decorators", W, "unable to save AOT compiled function to %s: %s", "save_failed"),
    (VLLM + "decorators", W, "%sunable to save AOT compiled function to %s: %s", "save_failed"),
    (
        VLLM + "backends",
        W,
        "Could not write compile cache metadata at %s; continuing without metadata.",
        "save_failed",
    ),
    (VLLM + "backends", INFO, "vLLM's torch.compile cache is disabled.", "cache_disabled"),
    (VLLM + "backends", INFO, "%svLLM's torch.compile cache is disabled.", "cache_disabled"),
    (VLLM + "decorators", W, "Detected eager backend, disabling AOT compile.", "cache_disabled"),
    (
        VLLM + "caching",
        W,
        "No execution code found, falling back to graph module execution.",
        "fell_back",
    ),
    (
        VLLM + "compiler_interface",
        E,
        "CRITICAL: VLLM_USE_MEGA_AOT_ARTIFACT is enabled. Falling back to non-AOT mode.",
        "fell_back",
    ),
    # torch 2.9 to 2.11
    (INDUCTOR + "codecache", W, "fx graph cache unable to load compiled graph", "load_failed"),
    (INDUCTOR + "codecache", W, "%s unable to load compiled graph", "load_failed"),
    (INDUCTOR + "output_code", E, "Failed to load artifact: %s", "load_failed"),
    (AUTOGRAD, INFO, "AOTAutograd cache unable to load compiled graph: %s", "load_failed"),
    (INDUCTOR + "codecache", W, "fx graph cache unable to serialize compiled graph", "save_failed"),
    (INDUCTOR + "codecache", W, "fx graph unable to write to cache", "save_failed"),
    (AUTOGRAD, INFO, "AOTAutograd cache unable to serialize compiled graph: %s", "save_failed"),
    (
        INDUCTOR + "standalone_compile",
        W,
        "standalone_compile artifact generation failed, cannot save. Run with TORCH_LOGS",
        "save_failed",
    ),
    (INDUCTOR + "codecache", INFO, "Bypassing FX Graph Cache because '%s'", "cache_bypassed"),
    (AUTOGRAD, INFO, "Bypassing autograd cache due to: %s", "cache_bypassed"),
    (INDUCTOR + "codecache", W, "Failed to pickle cache key", "cache_bypassed"),
    (
        AUTOGRAD,
        INFO,
        "Failed to generate AOTAutograd cache key; falling back to nonce",
        "cache_bypassed",
    ),
    (
        "torch._dynamo.convert_frame",
        W,
        "torch._dynamo hit config.%s (%s)\n   function: %s\n   last reason: %s",
        "recompiled",
    ),
]
NOT_SAID = [
    (VLLM + "backends", INFO, "Cache the graph of compile range %s for later use"),
    (VLLM + "decorators", INFO, "Directly load AOT compilation from path %s"),
    (VLLM + "decorators", INFO, "saved AOT compiled function to %s"),
    (VLLM + "backends", INFO, "Using cache directory: %s for vLLM's torch.compile"),
    (INDUCTOR + "codecache", INFO, "fx graph cache hit for key %s"),
    (AUTOGRAD, INFO, "AOTAutograd cache miss for key %s"),
    (VLLM + "caching", D, "No execution code found, falling back to graph module execution."),
    ("vllm.model_executor.x", W, "unable to load the tuned configuration"),
    ("vllmX.compilation", W, "unable to load"),
    (VLLM + "backends", W, 7),
    (VLLM + "backends", W, "%s"),
]


@pytest.mark.parametrize(("name", "level", "template", "kind"), SAID)
def test_what_a_release_only_logs_has_its_kind(
    name: str, level: int, template: str, kind: str
) -> None:
    assert kind_of(logged(name, level, template)) == kind


@pytest.mark.parametrize(("name", "level", "template"), NOT_SAID)
def test_what_goes_well_is_no_event(name: str, level: int, template: object) -> None:
    assert kind_of(logged(name, level, template)) is None


def test_an_event_is_kept_once_in_its_first_words_with_its_count() -> None:
    events = Events()
    for path in ("/a", "/b"):
        events.add(logged(VLLM + "x", W, "unable to load %s", path))
    events.add(logged(VLLM + "x", INFO, "saved"))
    assert events.found() == [{"kind": "load_failed", "text": "unable to load /a", "count": 2}]


def test_an_event_has_the_error_it_was_logged_with_on_one_line_of_bounded_length() -> None:
    events, error = Events(), KeyError("a\nb")
    record = logged(INDUCTOR + "codecache", W, "fx graph cache unable to load compiled graph")
    record.exc_info = (KeyError, error, None)
    events.add(record)
    events.add(logged(VLLM + "x", W, "unable to load\n %s", "x" * 9999))
    first, second = events.found()
    assert first["text"] == r"fx graph cache unable to load compiled graph: KeyError: 'a\nb'"
    assert len(second["text"]) == EVENT_LIMIT and second["text"].startswith("unable to load xxx")


def test_there_are_only_so_many_events_of_a_start() -> None:
    events = Events()
    for number in range(2 * EVENTS_LIMIT):
        events.add(logged(VLLM + "x", W, f"unable to load number {number}"))
    assert len(events.found()) == EVENTS_LIMIT


def test_arguments_that_do_not_fit_lose_no_event() -> None:
    events = Events()
    events.add(logged(VLLM + "x", W, "unable to load %s from %s", "a"))
    assert events.found()[0]["text"] == "unable to load %s from %s"


def test_every_kind_is_known() -> None:
    assert {row[3] for row in SAID} == set(EventKind)
