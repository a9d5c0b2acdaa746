"""The export route: what it refuses without torch, and, where there is torch, what it does with odd folders.

That its vectors are right for the families that need it is the parity matrix's to show (tests/parity/families).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from models import export
from service.errors import CheckpointError
from tests.clients.conftest import INSTALL_AND_RUN_SECONDS
from tests.models import tiny
from tests.models.conftest import Compile
from tests.models.tiny import Tiny, change_json
from tests.parity.families.exports import run_script

SCRIPT = Path(__file__).with_name("torch_exports.py")

needs_no_torch = pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed here")


@needs_no_torch
def test_what_to_install_is_said_where_nothing_else_can_build_the_graph(tmp_path: Path, compiled: Compile) -> None:
    folder = Tiny(config={"model_type": "albert"}).write(tmp_path / "albert")
    with pytest.raises(CheckpointError, match=r"model_type 'albert' .* torch, transformers") as caught:
        compiled(folder)
    assert "pip install 'embedserve[export]'" in caught.value.remedy
    with pytest.raises(CheckpointError, match="the export route needs torch") as caught:
        compiled(folder, route="export")
    assert caught.value.remedy == "pip install 'embedserve[export]'"


def _own_code(folder: Path) -> None:
    change_json(folder / "config.json", auto_map={"AutoModel": "modeling_odd.OddModel"})


def _own_tokenizer(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_odd.Odd", None]})


def _adapter(folder: Path) -> None:
    tiny.write_json(folder / "adapter_config.json", {"peft_type": "LORA"})


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_own_code, r"config\.json names code of the checkpoint's own \(modeling_odd\.OddModel\)"),
        (_own_tokenizer, r"tokenizer_config\.json names code of the checkpoint's own \(tokenization_odd\.Odd\)"),
        (_adapter, "holds an adapter"),
        (_pickle, r"neither model\.safetensors nor .*pickled weights are never loaded"),
    ],
)
def test_refused_before_torch_is_asked(tmp_path: Path, compiled: Compile, spoil: object, message: str) -> None:
    folder = Tiny(config={"model_type": "albert"}).write(tmp_path / "albert")
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(CheckpointError, match=message):
        compiled(folder, route="export")
    assert not list((tmp_path / "cache").glob("bundles/*"))


def test_int8_is_built_from_weights(tmp_path: Path, compiled: Compile) -> None:
    with pytest.raises(CheckpointError, match="goes the export route, and int8 graphs are built by the native one"):
        compiled(Tiny().write(tmp_path / "bert"), route="export", precision="int8")


def test_the_packages_are_those_of_the_extra() -> None:
    """What is asked for is what the remedy installs."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(export.PACKAGES) <= {line.partition(">")[0] for line in project["optional-dependencies"]["export"]}


# ------------------------------------------------------------------------------------------------ with torch


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Case of torch_exports.py → what became of it."""
    done = run_script(str(SCRIPT), str(tmp_path_factory.mktemp("exports")))
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.heavy
@pytest.mark.timeout(INSTALL_AND_RUN_SECONDS)
@pytest.mark.parametrize(
    ("case", "parts"),
    [
        ("exported_twice", ["1 content, traces: [], transformers 5.23.0, torch 2.13.0"]),
        ("many_sizes", ["44 rows, the same: True"]),
        ("chosen_by_itself", ["True exporting with transformers"]),
        (
            "sentencepiece_only",
            ["no tokenizer.json: converting", "T5Tokenizer", "verified 8 texts"],
        ),
        ("settings_beside_the_tokenizer", ["gives other tokens than transformers' GPT2Tokenizer", "verified 8 texts"]),
        ("missing_tensor", ["CheckpointError", "the weights have no layers.0.mlp.up_proj.weight"]),
        ("superfluous_tensor", ["CheckpointError", "no place for the weights' layers.0.self_attn.q_proj.bias"]),
        ("encoder_and_decoder", ["CheckpointError", "model_type 'bart' has an encoder and a decoder"]),
        ("not_exportable", ["CheckpointError", "torch cannot export it: ", "--route onnx"]),
        ("unknown_architecture", ["CheckpointError", "transformers cannot load it: ValueError", "quantum-bert"]),
        ("out_of_memory", ["StartupError", "out of memory"]),
        ("full_disk", ["StartupError", "cannot be written: File too large", "free some space"]),
        ("left", ["[]"]),
    ],
)
def test_odd_checkpoints(outcomes: Mapping[str, str], case: str, parts: list[str]) -> None:
    for part in parts:
        assert part in outcomes[case]
