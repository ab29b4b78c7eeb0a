"""Whether a test runner runs this code."""

from __future__ import annotations

import os
import sys


def running_tests() -> str:
    """The test runner that runs this code, or that started this process; "" if there is none.

    pytest sets variables, which processes that a test starts inherit. Django's test runner keeps
    mail in `django.core.mail.outbox`. For unittest alone nothing is set: it is the main program, or
    one of its test cases is among the callers, which in another thread is not seen.
    """
    if "PYTEST_CURRENT_TEST" in os.environ or "PYTEST_VERSION" in os.environ:
        return "pytest"
    if hasattr(sys.modules.get("django.core.mail"), "outbox"):
        return "Django's test runner"
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if main is not None and main.name == "unittest.__main__":
        return "unittest"
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__") == "unittest.case":
            return "unittest"
    return ""
