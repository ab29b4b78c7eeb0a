"""What a benchmark tells a rival's worker, by its environment."""

from __future__ import annotations

import os

REDIS_URL = os.environ.get("BENCHMARK_REDIS_URL", "")
API_KEY = os.environ.get("BENCHMARK_API_KEY", "")
URL = os.environ.get("BENCHMARK_API_URL", "") + "/customers/attributes/custom"
INTERVAL_US = round(1e6 / float(os.environ.get("BENCHMARK_RATE_LIMIT") or 39.2))
"""Microseconds between two requests of all workers."""
CONCURRENCY = int(os.environ.get("BENCHMARK_CONCURRENCY") or 20)

TIMEOUT_S = 10
ATTEMPTS = 20
"""Requests for one job while the answer is 429 or 503; each takes a slot of its own."""
PACED = (429, 503)
