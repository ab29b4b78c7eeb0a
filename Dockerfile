# Two stages: the first makes a virtual environment from the hashed lock, the second holds that
# environment and Python, and nothing to build with. The same image runs the worker, Flower and the
# stand-in: the command says which.
FROM python:3.13-slim AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/courier
COPY requirements.txt ./
RUN /opt/courier/bin/python -m pip install --require-hashes --requirement requirements.txt

# .dockerignore lets through what the distribution is built from, and nothing else.
COPY . ./
RUN /opt/courier/bin/python -m pip install --no-deps --no-build-isolation . \
    && /opt/courier/bin/python -m pip uninstall --yes setuptools pip


FROM python:3.13-slim

RUN groupadd --gid 10001 courier \
    && useradd --uid 10001 --gid courier --no-create-home --home-dir /tmp \
        --shell /usr/sbin/nologin courier
COPY --from=builder /opt/courier /opt/courier

ENV PATH="/opt/courier/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# By number, so that a platform which demands "not root" can tell without reading /etc/passwd.
USER 10001:10001

# Whether this container's workers can still work. Asks neither Redis nor ChartMogul: no trouble of
# theirs is mended by a restart.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=2 CMD ["courier", "health"]

ENTRYPOINT ["courier"]
CMD ["worker"]
