"""ChartMogul's official client for Node against the stand-in."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from attribute_courier.sandbox import SandboxProcess

from ..programs import NODE_MODULES, node_with

CLIENT = "chartmogul-node@3.12.3"

# The reference's own example, then attributes for each customer that a search finds.
PROGRAM = """
const ChartMogul = require('chartmogul-node');
const [url, key] = process.argv.slice(-2);
const config = new ChartMogul.Config(key, url);
config.retries = 0;
const custom = [
  {type: 'String', key: 'channel', value: 'Facebook', source: 'integration'},
  {type: 'Integer', key: 'age', value: 8, source: null},
];
(async () => {
  const said = {};
  said.ping = await ChartMogul.Ping.ping(config);
  said.added = await ChartMogul.CustomAttribute.add(config, {email: 'ada@example.com', custom});
  const found = await ChartMogul.Customer.search(config, {email: 'two@example.com'});
  said.each = [];
  for (const customer of found.entries) {
    said.each.push(await ChartMogul.CustomAttribute.add(config, customer.uuid, {custom}));
  }
  try {
    await ChartMogul.CustomAttribute.add(config, {email: 'nobody@example.com', custom});
  } catch (error) {
    said.refused = [error.status, error.response.body];
  }
  console.log(JSON.stringify(said));
})();
"""


def test_nodes_official_client_works_with_the_stand_in(stand_in: SandboxProcess) -> None:
    """CM18, CM19"""
    node = node_with(CLIENT)
    ended = subprocess.run(
        [node, "-e", PROGRAM, "--", stand_in.url.removesuffix("/v1"), stand_in.api_key],
        cwd=NODE_MODULES.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said: dict[str, Any] = json.loads(ended.stdout)
    values = {"channel": "Facebook", "age": 8}
    assert said["ping"] == {"data": "pong!"}
    assert said["added"]["entries"][0]["attributes"]["custom"] == values
    assert said["each"] == [{"custom": values}] * 2
    status, refusal = said["refused"]
    assert status == 404
    assert refusal["param"] == "email"
    for email in ("ada@example.com", "two@example.com"):
        for customer in stand_in.customers(email):
            assert customer["sources"] == {"channel": "integration", "age": "API"}
