"""A Flask application whose sign-ups reach ChartMogul.

Run it, and its tests:

    gunicorn --preload --workers 2 --bind 127.0.0.1:8000 'app:create_app()'
    python -m pytest
"""

import os
from typing import Any
from uuid import UUID

from flask import Flask, abort, request

from attribute_courier import (
    InvalidJob,
    NotEnqueued,
    NotReachable,
    Settings,
    add_attributes,
    configure,
    default_producer,
)


def create_app() -> Flask:
    app = Flask(__name__)
    configure(Settings(redis_url=os.environ.get("REDIS_URL", "redis://localhost:6379/0")))

    @app.post("/sign-ups")
    def sign_up() -> Any:
        asked = request.get_json()
        if not isinstance(asked, dict):
            abort(400)
        receipt = add_attributes(asked.get("email"), {"channel": asked.get("channel")})
        return {"outcome": f"/outcomes/{receipt.job_id}"}, 202

    @app.get("/outcomes/<uuid:job_id>")
    def outcome(job_id: UUID) -> Any:
        found = default_producer().outcome(str(job_id))
        if found is None:
            abort(404)
        return {"status": found.status, "message": found.message}

    @app.errorhandler(InvalidJob)
    def invalid(error: InvalidJob) -> Any:
        return {"errors": [str(each) for each in error.errors]}, 400

    @app.errorhandler(NotEnqueued)
    @app.errorhandler(NotReachable)
    def unavailable(error: Exception) -> Any:
        app.logger.error("%s", error)  # which names the Redis
        return {"errors": ["please try again later"]}, 503

    return app
