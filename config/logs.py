"""The worker's log: lines for people, or one JSON object a line (COURIER_LOG_FORMAT)."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from celery.app.log import Logging


class WorkerLog(Logging):
    """Celery's set-up of the log, whose handlers write JSON where the settings say so."""

    app: Any

    def setup_handlers(self, logger: Any, *args: Any, **options: Any) -> Any:
        before = list(logger.handlers)
        super().setup_handlers(logger, *args, **options)
        if self.app.settings.log_format == "json":
            for handler in logger.handlers:
                if handler not in before:
                    handler.setFormatter(JSONFormatter())
        return logger


class JSONFormatter(logging.Formatter):
    """A record as one line of JSON, its traceback and further fields included."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "thread": record.threadName,
            "message": getattr(record, "event", None) or record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, "fields", {}), ensure_ascii=False, default=repr)


def log_event(logger: logging.Logger, level: int, event: str, fields: Mapping[str, object]) -> None:
    """Log an event with fields: `attempt account=default …`, or the same as JSON.

    Args:
        fields: name → text, number, or a mapping of names to lists of texts. A plain line shows
            each name of a mapping as a field. None is left out.
    """
    fields = {name: content for name, content in fields.items() if content is not None}
    extra = {"event": event, "fields": fields}
    logger.log(level, "%s %s", event, _plain(fields), extra=extra)


def _plain(fields: Mapping[str, object]) -> str:
    words = []
    for name, content in fields.items():
        if isinstance(content, Mapping):
            words += [f"{each}={','.join(texts)}" for each, texts in content.items()]
        else:
            text = str(content)
            words.append(f"{name}={json.dumps(text, ensure_ascii=False) if ' ' in text else text}")
    return " ".join(words)


def say_as_json(text: str, *_: object) -> None:
    """Write what Celery says beside its log, such as that it shuts down, as a line of the log.

    A signal handler says it, so no lock may be taken: it is one write, past the log's handlers.
    """
    name = "celery.apps.worker"
    record = logging.LogRecord(name, logging.WARNING, __file__, 0, text.strip(), None, None)
    stream = sys.__stderr__
    if stream is not None:
        os.write(stream.fileno(), f"{JSONFormatter().format(record)}\n".encode())
