"""The chart's schema: what it says a second time is as the first time."""

from __future__ import annotations

import json

from deploy.chart_schema import CHART, schema
from service.settings import ServedModel, Settings

WRITTEN = (CHART / "values.schema.json").read_text("utf-8")


def test_descriptions_and_settings_are_current() -> None:
    """`make docs` writes them."""
    assert schema((CHART / "values.yaml").read_text("utf-8"), WRITTEN) == WRITTEN


def test_every_setting_may_be_told() -> None:
    """Those of a table of models as well, but for what all models share."""
    known = json.loads(WRITTEN)["definitions"]
    assert known["settings"]["properties"].keys() == Settings.model_fields.keys() - {"models"}
    assert known["servedModel"]["properties"].keys() == ServedModel.model_fields.keys() - {"executors"}
    assert known["settings"]["properties"]["max_batch_tokens"]["maximum"] == 1_000_000
