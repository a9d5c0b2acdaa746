"""deploy/compose: a valid file, hardened, whose parts fit together and are there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.image.build import ROOT
from service.settings import Settings
from tests.clients.environments import Python
from tests.monitoring.prometheus import promtool, rules

FOLDER = ROOT / "deploy" / "compose"
TOOLS = Python("compose", ("compose-spec==0.2.1", "compose-lint==0.36.2", "podman-compose==1.6.0"))
PARSE = "import sys, compose_spec; print(len(compose_spec.PyCompose.from_yaml(sys.stdin.read()).services))"


def tool(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """One of the environment's programs, in the folder of the file."""
    program = str(TOOLS.interpreter().with_name(command[0]))
    return subprocess.run(
        [program, *command[1:]], cwd=FOLDER, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def services() -> Any:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))["services"]


def mounts(service: Any) -> Iterator[tuple[Path, str]]:
    """The files that it is given, and where."""
    for one in service["volumes"]:
        source, target, *_ = one.split(":")
        if source.startswith("."):
            yield FOLDER / source, target


@pytest.mark.heavy
def test_it_is_valid_with_its_variables_filled_in() -> None:
    # It asks podman for its version, and for nothing else: echo has an answer, too, where podman is not installed.
    echo = shutil.which("echo") or "echo"
    resolved = tool("podman-compose", "--podman-path", echo, "--file", "compose.yaml", "config").stdout
    done = tool("python", "-c", PARSE, stdin=resolved)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert "image: grafana/grafana:" in resolved
    wrong = tool("python", "-c", PARSE, stdin=resolved.replace("read_only:", "readonly:", 1))
    assert "`readonly`" in wrong.stderr


@pytest.mark.heavy
def test_nothing_in_it_gives_more_rights_than_are_needed() -> None:
    done = tool("compose-lint", "check", "compose.yaml")
    assert done.returncode == 0, done.stdout
    assert "PASS" in done.stdout


@pytest.mark.heavy
def test_promtool_takes_prometheus_configuration_and_rules(services: Any, tmp_path: Path) -> None:
    for source, target in mounts(services["prometheus"]):
        shutil.copyfile(source, tmp_path / Path(target).name)
    said = promtool("check", "config", tmp_path / "prometheus.yml")
    assert f"{len(rules())} rules found" in said


def test_all_that_is_mounted_is_there(services: Any) -> None:
    found = [source for service in services.values() for source, _ in mounts(service)]
    assert len(found) == 5
    assert [one for one in found if not one.is_file()] == []


def test_prometheus_asks_the_port_and_as_the_job_that_the_others_know(services: Any) -> None:
    [job] = yaml.safe_load((FOLDER / "prometheus.yaml").read_text("utf-8"))["scrape_configs"]
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    port = re.search(r"EMBEDSERVE_ADMIN_PORT=(\d+)", dockerfile)
    assert port is not None
    assert job["static_configs"] == [{"targets": [f"server:{port[1]}"]}]
    assert job["job_name"] == "embedserve"
    [source] = yaml.safe_load((FOLDER / "grafana/datasources.yaml").read_text("utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_the_dashboard_lies_where_grafana_looks(services: Any) -> None:
    [provider] = yaml.safe_load((FOLDER / "grafana/dashboards.yaml").read_text("utf-8"))["providers"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in [target for _, target in mounts(services["grafana"])]
    assert str(Path(home).parent) == provider["options"]["path"]


def test_a_drain_may_end_before_the_server_is_killed(services: Any) -> None:
    seconds = float(services["server"]["stop_grace_period"].removesuffix("s"))
    assert seconds > Settings.model_fields["drain_grace"].default + Settings.model_fields["drain_timeout"].default


def test_ports_are_open_on_loopback_only(services: Any) -> None:
    ports = [port for service in services.values() for port in service["ports"]]
    assert len(ports) == len(services)
    assert all(port.startswith("127.0.0.1:") for port in ports)
