"""The Dockerfile's image, built on a stand-in base and run by podman with as few rights as it needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from deploy.image.base import stood_for
from deploy.image.build import ROOT, TAG, BuildFailed, build
from service.settings import DEFAULT_PORT
from tests.conftest import Golden
from tests.e2e.process import full_windows, wait_until
from tests.image.conftest import VERSION, StartContainer
from tests.image.containers import CONFINED, Container, podman
from tests.rolling.proxies import free_port

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]  # the first of them builds

USER = 10001
SIGTERM_STATUS = 143


class Serving:
    """A container whose server listens on loopback, on two ports of its own."""

    def __init__(
        self, start: StartContainer, image: str, *words: str, options: Sequence[str] = CONFINED, **env: str
    ) -> None:
        self.port, self.admin_port = free_port(), free_port()
        places = {"EMBEDSERVE_PORT": str(self.port), "EMBEDSERVE_ADMIN_PORT": str(self.admin_port)}
        self.container: Container = start(
            image, *words, options=options, env={"EMBEDSERVE_HOST": "127.0.0.1", **places, **env}
        )

    def get(self, path: str) -> httpx.Response:
        """From the second port."""
        return httpx.get(f"http://127.0.0.1:{self.admin_port}{path}", timeout=30, trust_env=False)

    def is_ready(self) -> bool:
        """False also where nobody answers."""
        try:
            return self.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self) -> Serving:
        """Fails with its log if it ends instead."""
        wait_until(lambda: self.is_ready() or not self.container.is_running(), f"ready: {self.container.logs()}")
        assert self.is_ready(), self.container.logs()
        return self

    def embed(self, texts: Sequence[str]) -> httpx.Response:
        """OpenAI's request at the first port."""
        url = f"http://127.0.0.1:{self.port}/v1/embeddings"
        return httpx.post(url, json={"input": list(texts)}, timeout=60, trust_env=False)


def vectors(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return np.asarray([one["embedding"] for one in reply.json()["data"]], dtype=np.float32)


@pytest.fixture(scope="module")
def described(image: str) -> Any:
    return json.loads(podman("image", "inspect", image).stdout)[0]


@pytest.fixture(scope="module")
def files(image: str) -> Iterator[Path]:
    """The file system of the image, mounted."""
    mounted = Path(podman("image", "mount", image).stdout.strip())
    yield mounted
    podman("image", "unmount", image)


def test_what_it_says_of_itself(described: Any) -> None:
    config = described["Config"]
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == (f"{USER}:{USER}", ["embedserve"], ["serve"])
    assert set(config["ExposedPorts"]) == {f"{DEFAULT_PORT}/tcp", "9090/tcp"}
    assert config["StopSignal"] == "SIGTERM"
    assert described["Healthcheck"]["Test"] == ["CMD", "embedserve", "health"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert "EMBEDSERVE_PORT" not in "".join(config["Env"])  # which would win over Vertex's AIP_HTTP_PORT


def test_it_has_the_python_and_the_release_of_debian_that_the_dockerfile_names(files: Path) -> None:
    """The environment's interpreter, and the packages that go with it."""
    version, suite = stood_for()
    settings = (files / "opt/embedserve/pyvenv.cfg").read_text("utf-8").splitlines()
    assert any(line.startswith(f"version = {version}.") for line in settings), settings
    assert [one.name for one in (files / "opt/embedserve/lib").iterdir()] == [f"python{version}"]
    assert f"VERSION_CODENAME={suite}" in (files / "etc/os-release").read_text("utf-8").splitlines()


def test_nothing_that_builds_or_trains_is_in_it(files: Path) -> None:
    """Nor what pip, compilers and compiled models leave behind."""
    programs = {
        one.name for folder in ("usr/local/bin", "usr/bin", "opt/embedserve/bin") for one in (files / folder).iterdir()
    }
    assert not programs & {"gcc", "cc", "g++", "ld", "as", "make", "hatchling", "git", "curl"}
    assert not {one for one in programs if one.startswith("pip")}
    packages = {
        one.name for one in next((files / "opt/embedserve/lib").glob("python*")).joinpath("site-packages").iterdir()
    }
    assert {"service", "models", "onnxruntime"} <= packages
    assert not packages & {
        "pip",
        "setuptools",
        "wheel",
        "torch",
        "transformers",
        "hatchling",
        "pytest",
        "tests",
        "loadtest",
    }
    assert [one for pattern in ("*.whl", "*.safetensors", "*.onnx.data") for one in files.rglob(pattern)] == []
    assert not (files / "src").exists()
    for folder in ("tmp", "cache", "models"):
        assert list((files / folder).iterdir()) == []


def test_all_of_the_project_is_compiled_to_bytecode_that_needs_no_dates(files: Path) -> None:
    """Bit 0 of the flags: it goes with a hash of the source; bit 1 unset: which is not looked at (PEP 552)."""
    site = next((files / "opt/embedserve/lib").glob("python*")) / "site-packages"
    sources = [one for package in ("service", "models", "fastapi") for one in (site / package).rglob("*.py")]
    assert len(sources) > 100
    for source in sources:
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc")
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", compiled


def test_it_serves_right_vectors_with_no_rights(baked: str, start: StartContainer, golden: Golden) -> None:
    serving = Serving(start, baked).wait_ready()
    found = vectors(serving.embed(golden.texts[:32]))
    assert np.abs(found - golden.vectors[:32]).max() <= 1e-4
    status = dict(
        line.split(":\t", 1)
        for line in serving.container.run("cat", "/proc/1/status").stdout.splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == [str(USER)] * 4
    assert status["NoNewPrivs"] == "1"
    assert {name: int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {
        "CapPrm": 0,
        "CapEff": 0,
        "CapBnd": 0,
    }
    for place in ("/", "/opt/embedserve", "/cache", "/models"):
        assert serving.container.run("touch", f"{place}/x").returncode != 0, place
    assert serving.container.inspect()["HostConfig"]["Memory"] == 2**30
    assert httpx.get(f"http://127.0.0.1:{serving.port}/metrics", trust_env=False).status_code == 404
    assert "embedserve_" in serving.get("/metrics").text


def test_the_health_command_tells_what_readiness_tells(baked: str, start: StartContainer, described: Any) -> None:
    serving = Serving(start, baked, EMBEDSERVE_DRAIN_GRACE="30").wait_ready()
    command = described["Healthcheck"]["Test"][1:]
    for _ in range(3):
        done = serving.container.run(*command)
        assert (done.returncode, done.stdout.strip()) == (0, "ready"), done.stderr
    assert _zombies(serving.container) == []
    assert serving.container.run(*command, "--admin-port", str(free_port())).returncode == 1
    serving.container.signal("TERM")
    wait_until(lambda: serving.container.run(*command).returncode == 1, "the drain to show")
    done = serving.container.run(*command, "--live")
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), done.stderr


def _zombies(container: Container) -> list[str]:
    """Processes that nobody has waited for."""
    states = container.run("sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null").stdout.splitlines()
    return [line for line in states if line.rpartition(")")[2].split()[0] == "Z"]


def test_what_is_in_flight_is_answered_after_sigterm(baked: str, start: StartContainer) -> None:
    serving = Serving(start, baked, EMBEDSERVE_DRAIN_TIMEOUT="60").wait_ready()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(serving.embed, full_windows(6, 6 * i)) for i in range(4)]
        wait_until(lambda: _in_flight(serving) == 4, "all of them being answered")
        serving.container.signal("TERM")
        answered = [vectors(one.result()).shape for one in asked]
    assert answered == [(6, 384)] * 4
    assert serving.container.wait() == 0


def _in_flight(serving: Serving) -> int:
    lines = serving.get("/metrics").text.splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith("embedserve_requests_in_flight")))


def test_as_process_1_it_can_be_ended_before_it_serves(image: str, start: StartContainer) -> None:
    """The kernel drops what process 1 has no handler for; this command, which waits for a line, sets none itself."""
    container = start(image, "key", "--hash")
    wait_until(lambda: _takes_sigterm(container), "a handler")
    container.signal("TERM")
    assert container.wait() == SIGTERM_STATUS


def _takes_sigterm(container: Container) -> bool:
    lines = container.run("cat", "/proc/1/status").stdout.splitlines()
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> 14 & 1)


def test_a_folder_to_bake_in_that_is_missing_is_asked_of_no_hub(base: str) -> None:
    with pytest.raises(BuildFailed, match="the build has no checkpoints/missing"):
        build("localhost/embedserve:test-missing", "model", {"MODEL": "checkpoints/missing"})


def test_a_mounted_model_is_served(image: str, bundle: Path, start: StartContainer, golden: Golden) -> None:
    mounted = (*CONFINED, "--volume", f"{bundle}:/models/mine:ro")
    serving = Serving(start, image, "serve", "/models/mine", options=mounted).wait_ready()
    assert np.abs(vectors(serving.embed(golden.texts[:4])) - golden.vectors[:4]).max() <= 1e-4


@pytest.fixture
def volume() -> Iterator[str]:
    """A new one, which belongs to whom the image says."""
    name = podman("volume", "create").stdout.strip()
    yield name
    podman("volume", "rm", "--force", name)


def test_a_mounted_checkpoint_is_compiled_into_the_cache(
    image: str, start: StartContainer, volume: str, tmp_path: Path
) -> None:
    """A volume at /cache is all that has to be writable beside /tmp."""
    words = tmp_path / "words.txt"
    words.write_text("cat 1 0 0\ndog 0 1 0\nbird 0 0 1\n", "utf-8")
    cached = (*CONFINED, "--volume", f"{volume}:/cache", "--volume", f"{words}:/models/words.txt:ro")
    serving = Serving(start, image, "serve", "/models/words.txt", options=cached).wait_ready()
    assert vectors(serving.embed(["cat", "dog"])).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert serving.container.run("ls", "/cache").stdout.split() != []


def test_without_a_place_for_a_cache_it_says_what_is_missing(image: str, start: StartContainer, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("cat 1 0 0\n", "utf-8")
    serving = Serving(
        start, image, "serve", "/models/words.txt", options=(*CONFINED, "--volume", f"{words}:/models/words.txt:ro")
    )
    assert serving.container.wait() == 1
    assert "/cache" in serving.container.logs()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A copy of what images are built from, with other dates."""
    folder = tmp_path / "context"
    (folder / "deploy").mkdir(parents=True)
    for name in ("Dockerfile", ".dockerignore", "LICENSE", "NOTICE", "README.md", "pyproject.toml"):
        shutil.copyfile(ROOT / name, folder / name)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("service", "models", "deploy/requirements"):
        shutil.copytree(ROOT / name, folder / name, copy_function=shutil.copyfile, ignore=ignored)
    return folder


@pytest.fixture
def built(context: Path) -> Iterator[Callable[..., str]]:
    """built(**arguments) → the name of an image of that context, which loses it when the test ends."""
    tag = f"{TAG}-changed"

    def make(**arguments: str) -> str:
        build(tag, arguments=arguments, context=context)
        return tag

    yield make
    podman("untag", tag, tag)  # without the second one an image would lose all of its names


def test_a_change_of_code_changes_the_last_layer_alone(
    described: Any, context: Path, built: Callable[..., str]
) -> None:
    """And a copy of the sources with other dates changes nothing."""
    layers = described["RootFS"]["Layers"]
    assert _layers(built()) == layers
    with (context / "service" / "__init__.py").open("a") as file:
        file.write("# changed\n")
    changed = _layers(built())
    assert changed[:-1] == layers[:-1]
    assert changed[-1] != layers[-1]


def _layers(tag: str) -> list[str]:
    found: list[str] = json.loads(podman("image", "inspect", tag).stdout)[0]["RootFS"]["Layers"]
    return found


def test_a_checkpoint_of_ones_own_is_baked_as_it_is_now(
    base: str, context: Path, built: Callable[..., str], start: StartContainer
) -> None:
    """No builder's cache takes an older one of the same name for it."""
    words = context / "checkpoints" / "words.txt"
    words.parent.mkdir()
    for vector in ([1, 0, 0], [0, 0, 1]):
        words.write_text(f"cat {' '.join(map(str, vector))}\ndog 0 1 0\n", "utf-8")
        image = built(MODEL="checkpoints/words.txt")
    serving = Serving(start, image).wait_ready()
    assert vectors(serving.embed(["cat"])).tolist() == [[0, 0, 1]]
    assert serving.container.run("ls", "/context").returncode != 0
