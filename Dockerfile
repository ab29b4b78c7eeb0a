# `docker build .` makes the image for production: it runs the worker, Flower and the commands, and
# holds no embedded server and no stand-in. `docker build --target sandbox .` has the stand-in, for
# development. Each is a virtual environment from a hashed lock, and nothing to build with.
FROM python:3.13-slim AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/courier
COPY requirements-production.txt ./
RUN /opt/courier/bin/python -m pip install --require-hashes --requirement requirements-production.txt

# .dockerignore lets through what the distribution is built from, and nothing else.
COPY . ./
RUN /opt/courier/bin/python -m pip install --no-deps --no-build-isolation . \
    && rm /opt/courier/lib/python3*/site-packages/attribute_courier/sandbox/server.py \
    && /opt/courier/bin/python -m pip uninstall --yes setuptools pip


FROM python:3.13-slim AS sandbox-builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/courier
COPY requirements.txt ./
RUN /opt/courier/bin/python -m pip install --require-hashes --requirement requirements.txt
COPY . ./
RUN /opt/courier/bin/python -m pip install --no-deps --no-build-isolation . \
    && /opt/courier/bin/python -m pip uninstall --yes setuptools pip


FROM python:3.13-slim AS base

RUN groupadd --gid 10001 courier \
    && useradd --uid 10001 --gid courier --no-create-home --home-dir /tmp \
        --shell /usr/sbin/nologin courier

ENV PATH="/opt/courier/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# By number, so that a platform which demands "not root" can tell without reading /etc/passwd.
USER 10001:10001
# `courier` is the first process itself: no shell stands between it and the signal to stop.
STOPSIGNAL SIGTERM
ENTRYPOINT ["courier"]


FROM base AS sandbox

COPY --from=sandbox-builder /opt/courier /opt/courier
CMD ["sandbox"]


# The last stage is what `docker build` makes when no target is named.
FROM base AS production

COPY --from=builder /opt/courier /opt/courier

# Whether this container's workers can still work. Asks neither Redis nor ChartMogul: no trouble of
# theirs is mended by a restart.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=2 CMD ["courier", "health"]

CMD ["worker"]
