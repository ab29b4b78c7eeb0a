"""A Django project in one file, whose sign-ups reach ChartMogul once they are committed.

Run it, and its tests:

    python project.py migrate
    gunicorn --preload --workers 2 --bind 127.0.0.1:8000 project:application
    python project.py test
"""

import json
import logging
import os
import sys
from typing import Any
from uuid import UUID

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ATTRIBUTE_COURIER={"REDIS_URL": os.environ.get("REDIS_URL", "redis://localhost:6379/0")},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "app.db"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "for this example alone"),
    USE_TZ=True,
)
django.setup()

from django.contrib.auth.models import User
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.db import IntegrityError, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from attribute_courier import InvalidJob, NotReachable, default_producer
from attribute_courier.producers.django import add_attributes_on_commit


def errors(status: int, *texts: Any) -> JsonResponse:
    return JsonResponse({"errors": [str(text) for text in texts]}, status=status)


@csrf_exempt  # JSON of a client that has no cookie
def sign_up(request: HttpRequest) -> JsonResponse:
    try:
        asked = json.loads(request.body)
        with transaction.atomic():
            receipt = add_attributes_on_commit(asked["email"], {"channel": asked["channel"]})
            User.objects.create_user(asked["email"], email=asked["email"])
    except InvalidJob as invalid:
        return errors(400, *invalid.errors)
    except IntegrityError:  # rolled back, and ChartMogul learns nothing
        return errors(409, "this email has signed up")
    except (ValueError, TypeError, KeyError):
        return errors(400, "a JSON object with email and channel is expected")
    return JsonResponse({"outcome": f"/outcomes/{receipt.job_id}"}, status=202)


def outcome(request: HttpRequest, job_id: UUID) -> JsonResponse:
    try:
        found = default_producer().outcome(str(job_id))
    except NotReachable as error:
        logging.getLogger(__name__).error("%s", error)  # which names the Redis
        return errors(503, "please try again later")
    if found is None:
        return errors(404, "no job has this id")
    return JsonResponse({"status": found.status, "message": found.message})


urlpatterns = [path("sign-ups", sign_up), path("outcomes/<uuid:job_id>", outcome)]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
