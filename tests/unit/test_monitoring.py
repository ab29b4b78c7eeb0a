"""The files for Prometheus and Grafana: alerts, their tests, the dashboard, and their page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from attribute_courier.operate.problems import Code

from ..prometheus import ROOT, RULES, promtool
from .test_docs import anchors, table
from .test_metrics import BUSY, TELLING, picture, samples, text_of

DEPLOY = ROOT / "deploy"
TESTS = DEPLOY / "prometheus/attribute-courier.tests.yml"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/attribute-courier.json").read_text())


def yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text("utf-8"))


[GROUP] = yaml(RULES)["groups"]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in GROUP["rules"]}
EXPORTED = {
    f"attribute_courier_{name}" for name, _ in samples(text_of(picture(BUSY, redis=TELLING)))
} | {
    "attribute_courier_up",
    "attribute_courier_build_info",
}


def metrics_in(text: str) -> set[str]:
    return set(re.findall(r"\battribute_courier_\w+", text))


def expressions() -> list[str]:
    """What the dashboard's panels ask Prometheus for."""
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


# --- alerts ------------------------------------------------------------------------------------


def test_prometheus_takes_the_rules_and_its_configuration() -> None:
    promtool("check", "rules", str(RULES))
    promtool("check", "config", str(DEPLOY / "prometheus/prometheus.yml"))


@pytest.mark.long
def test_each_alert_comes_when_it_should_and_only_then() -> None:
    promtool("test", "rules", str(TESTS))
    cases = [case for test in yaml(TESTS)["tests"] for case in test["alert_rule_test"]]
    for expected in (True, False):
        named = {case["alertname"] for case in cases if bool(case["exp_alerts"]) is expected}
        assert named == set(ALERTS), expected


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert anchor in anchors(ROOT / page)


def test_alerts_ask_for_metrics_that_there_are() -> None:
    assert metrics_in(RULES.read_text("utf-8")) - EXPORTED == set()


def test_the_page_lists_the_alerts() -> None:
    listed = {row[0].strip("`"): tuple(row[1:3]) for row in table("monitoring.md", "alert")}
    assert listed == {
        name: (alert["labels"]["severity"], alert.get("for", "at once"))
        for name, alert in ALERTS.items()
    }


WITH_A_LIMIT = {"few_workers", "backlog_large"}
"""Problems only where a command was given a limit: for an alert, a rule has it."""


def test_whatever_the_courier_finds_wrong_has_an_alert() -> None:
    named = {row[3].strip("`") for row in table("monitoring.md", "alert")} - {""}
    assert named == set(get_args(Code)) - WITH_A_LIMIT


# --- the dashboard -----------------------------------------------------------------------------


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    whole = json.dumps(DASHBOARD)
    assert metrics_in(whole) - EXPORTED == set()
    unseen = EXPORTED - {re.sub(r"_(bucket|sum|count)$", "", name) for name in metrics_in(whole)}
    suffixes = ("_bucket", "_sum", "_count")
    assert {name for name in unseen if not name.endswith(suffixes)} == set(), "shown nowhere"


def test_its_queries_are_promql(tmp_path: Path) -> None:
    """promtool reads them as rules, with what Grafana puts in place of its variables."""
    rules = [
        {"record": f"panel:{number}", "expr": expr.replace("$account", ".+")}
        for number, expr in enumerate(expressions())
    ]
    text = json.dumps({"groups": [{"name": "dashboard", "rules": rules}]})
    path = tmp_path / "dashboard.json"  # which is YAML, too
    path.write_text(text.replace("$__rate_interval", "5m"))
    promtool("check", "rules", str(path))


def test_one_may_choose_the_data_source_and_the_account() -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "account"]
    assert variables["account"]["includeAll"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
    of_all = r"attribute_courier_(redis_\w+|up|build_info)\b"
    unfiltered = {
        name
        for expr in expressions()
        for name in re.findall(r"(attribute_courier_\w+)(?!\w|\{account=~)", expr)
        if not re.fullmatch(of_all, name)
    }
    assert unfiltered == set()


def test_panels_do_not_lie_over_each_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


# --- the Compose profile -----------------------------------------------------------------------


def test_grafana_finds_prometheus_and_prometheus_the_exporter() -> None:
    services = yaml(ROOT / "docker-compose.yml")["services"]
    [source] = yaml(DEPLOY / "grafana/datasources.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [job] = yaml(DEPLOY / "prometheus/prometheus.yml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["metrics:9464"]}]
    assert {"prometheus", "metrics"} <= services.keys()
    [provider] = yaml(DEPLOY / "grafana/dashboards.yml")["providers"]
    mounted = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/attribute-courier.json" in mounted
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in mounted
