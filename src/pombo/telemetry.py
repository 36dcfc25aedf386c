"""Log event names and metrics, in one place; `docs/operate/telemetry.md` holds a line for each (a test compares).

Events are static names with fields: ids, never objects; tokens and message texts never.
"""

import logging
import sys

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str, role: str) -> None:
    """One JSON line an event on stderr, or a coloured one where a person reads it."""
    renderer = (
        structlog.dev.ConsoleRenderer(pad_event_to=24)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)


log: structlog.stdlib.BoundLogger = structlog.get_logger()
