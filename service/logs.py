"""Logs: JSON on a pipe, readable on a terminal; never performance figures (those are metrics), never secrets."""

import contextlib
import logging
import sys
from typing import TextIO, cast

import stamina.instrumentation
import structlog


class _Stderr:
    """Standard error, for which nobody has to be there: a full disk or a pipe without a reader stops no work."""

    def write(self, text: str) -> None:
        """Write, or leave it."""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """Flush, or leave it."""
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def configure(*, level: str = "INFO", json: bool | None = None) -> None:
    """Set up structlog and the standard library's logging to write to stderr in one format.

    `json=None` decides by whether stderr is a terminal. Libraries log warnings and worse.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Stderr())),  # writes and flushes, no more
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    # Its own words would name functions and arguments to a person who waits for a server.
    stamina.instrumentation.set_on_retry_hooks([_tried_again])
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def _tried_again(details: stamina.instrumentation.RetryDetails) -> None:
    structlog.get_logger().warning(str(details.caused_by), tried_again_in_seconds=round(details.wait_for, 1))
