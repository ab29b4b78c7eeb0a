"""Can everything be reached, and is it what it should be? For `courier ping` and `courier doctor`.

Each check is decided here, once.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..config import Settings
from ..config.broker_errors import describe_broker_error
from ..config.connections import Client
from ..config.network import network_faults
from ..config.redis_errors import RedisError, describe_redis_error
from ..state import health
from .findings import Finding
from .problems import Problem, problems


def redis_fitness(client: Client, settings: Settings) -> tuple[list[Finding], str]:
    """Does Redis answer, take writes, run scripts, and hold what it should?

    Returns:
        What is wrong with it; and its version, "" where it does not answer.
    """
    try:
        wrong = health.wrong_types(client, settings.accounts)
        version = health.version(client)
        found = problems((), health.redis_health(client))
    except RedisError as error:
        return [unreachable(settings, error)], ""
    return [
        *(
            Finding(part="Redis", what="keys", level="error", text=text, kind="unreachable")
            for text in wrong
        ),
        *map(as_finding, found),
    ], version


def unreachable(settings: Settings, error: Exception) -> Finding:
    """That Redis does not answer, or answers with an error."""
    said = describe_redis_error(settings, error)
    text = said.removeprefix(f"Redis at {settings.redis_address} ")
    return Finding(part="Redis", what="answer", level="error", text=text, kind="unreachable")


def broker(settings: Settings) -> Finding:
    """Does a message come through the broker, and back?"""
    from .broker import round_trip_s  # imports Celery

    try:
        took_s = round_trip_s(settings)
    except Exception as error:  # of any broker's transport
        return Finding(
            part="Broker",
            what="round trip",
            level="error",
            text=f"no message comes through: {describe_broker_error(settings, error)}",
            hint="without messages, jobs are found by the workers' ticks, later and slower: look "
            "at the broker, and at the rights of this user",
            kind="unreachable",
        )
    return Finding(
        part="Broker",
        what="round trip",
        level="ok",
        text=f"a message went through a queue and back in {took_s * 1000:.0f} ms",
    )


def network() -> list[Finding]:
    """What is wrong with proxies and certificates."""
    return [
        Finding(
            part="Network",
            what="proxy and certificates",
            level="error",
            text=fault,
            kind="settings",
        )
        for fault in network_faults()
    ]


def chartmogul(settings: Settings, account: str) -> Finding:
    """Is the account's API key valid? One request, a ping.

    Raises:
        SettingsError: the account has no key.
    """

    # Not above: this imports the worker, which reads the settings at once.
    from ..worker.chartmogul import Answer, ChartMogul
    from ..worker.masking import masked
    from ..worker.verdicts import Kind, is_pong, judge

    def finding(ok: bool, text: str, hint: str = "", *, answered: bool = True) -> Finding:
        return Finding(
            part="ChartMogul",
            what=f"account {account}",
            level="ok" if ok else "error",
            text=text,
            hint=hint,
            kind="wrong" if answered else "unreachable",
        )

    api_key = settings.api_key(account)
    answer = ChartMogul(settings.api_url, api_key, timeout_s=settings.timeout_s).ping()
    if is_pong(answer):
        return finding(True, f"the API key is valid at {settings.api_url}")
    verdict = judge(answer)
    said = masked(verdict.message or "", email="", values=(), api_key=api_key)
    if not isinstance(answer, Answer):
        hint = "is CHARTMOGUL_API_URL right, and does this machine reach it (HTTPS_PROXY)?"
        return finding(False, said, hint, answered=False)
    hint = "set the account's API key (docs/settings.md)"
    if verdict.strange or verdict.kind in (Kind.ROUTE, Kind.UNMATCHED):
        hint = "is CHARTMOGUL_API_URL right? It ends in /v1"
    elif verdict.kind in (Kind.SERVER, Kind.PACE):
        hint = "nothing, if ChartMogul is down or asks for fewer requests; try again later"
    return finding(False, f"{said} (HTTP {answer.status})", hint)


_PARTS = {
    "layout": "State",
    "no_worker": "Workers",
    "few_workers": "Workers",
    "clock_step": "Time",
}


def as_finding(problem: Problem) -> Finding:
    """A problem, among other findings."""
    of_redis = problem.code.startswith("redis_")
    return Finding(
        part="Redis" if of_redis else _PARTS.get(problem.code, "Deliveries"),
        what=problem.code if problem.account is None else f"account {problem.account}",
        level=problem.level,
        text=problem.text,
        hint=problem.hint,
        kind="unreachable" if of_redis else "wrong",
    )


def worst(findings: Sequence[Finding]) -> int:
    """The exit code that follows: that of the first of wrong settings, what cannot be reached,
    and what is wrong in another way."""
    codes = {"wrong": 1, "settings": 2, "unreachable": 3}
    return max((codes[each.kind] for each in findings if each.level == "error"), default=0)
