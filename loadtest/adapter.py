"""The queries of deploy/prometheus/adapter-rules.yaml, as prometheus-adapter makes them."""

from __future__ import annotations

from pathlib import Path

from loadtest import command

with command.needing("pyyaml"):
    import yaml

RULES = Path(__file__).parents[1] / "deploy" / "prometheus" / "adapter-rules.yaml"


def queries(namespace: str, pods: str) -> dict[str, str]:
    """Names of metrics and their queries, for pods of a namespace that match a pattern: one value for each pod."""
    filled = {"<<.LabelMatchers>>": f'namespace="{namespace}",pod=~"{pods}"', "<<.GroupBy>>": "pod"}
    found = {}
    for rule in yaml.safe_load(RULES.read_text("utf-8"))["rules"]:
        query: str = rule["metricsQuery"]
        for mark, value in filled.items():
            query = query.replace(mark, value)
        found[rule["name"]["as"]] = query
    return found
