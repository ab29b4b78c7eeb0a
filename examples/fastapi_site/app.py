"""A FastAPI application whose sign-ups reach ChartMogul, without blocking its event loop.

Run it, and its tests:

    uvicorn --workers 2 --port 8000 app:app
    python -m pytest
"""

import logging
import os
from uuid import UUID

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from attribute_courier import (
    InvalidJob,
    NotEnqueued,
    NotReachable,
    Settings,
    add_attributes_async,
    configure,
    default_producer,
)

log = logging.getLogger(__name__)
configure(Settings(redis_url=os.environ.get("REDIS_URL", "redis://localhost:6379/0")))
app = FastAPI()


class SignUp(BaseModel):
    email: str
    channel: str


@app.post("/sign-ups", status_code=202)
async def sign_up(asked: SignUp) -> dict[str, str]:
    receipt = await add_attributes_async(asked.email, {"channel": asked.channel})
    return {"outcome": f"/outcomes/{receipt.job_id}"}


@app.get("/outcomes/{job_id}")
def outcome(job_id: UUID) -> dict[str, str | None]:  # not async: FastAPI runs it in a thread
    found = default_producer().outcome(str(job_id))
    if found is None:
        raise HTTPException(404)
    return {"status": found.status, "message": found.message}


@app.exception_handler(InvalidJob)
def invalid(_request: Request, error: InvalidJob) -> JSONResponse:
    return JSONResponse({"errors": [str(each) for each in error.errors]}, status_code=422)


@app.exception_handler(NotEnqueued)
@app.exception_handler(NotReachable)
def unavailable(_request: Request, error: Exception) -> JSONResponse:
    log.error("%s", error)  # which names the Redis
    return JSONResponse({"errors": ["please try again later"]}, status_code=503)
