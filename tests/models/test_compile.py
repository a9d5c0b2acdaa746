"""From a source to a published bundle: what is in it, when it is found again, and what may go wrong on the way."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models import verify
from models.compile import compile_checkpoint, find_cached
from models.recipe import checkpoint_files
from models.staging import STAGING_PREFIX
from service.bundle import read_bundle, read_golden, verify_files
from service.errors import CheckpointError, SourceError, StartupError
from tests.models import tiny
from tests.models.conftest import MINILM, Compile
from tests.models.tiny import Tiny, change_json, write_json

ROOT = Path(__file__).parents[2]

COMPILE = """
import sys
from pathlib import Path
from models.compile import compile_checkpoint
print(compile_checkpoint(sys.argv[1], cache_dir=Path(sys.argv[2]), say=lambda line: None))
"""


def start_compile(source: Path, cache: Path, code: str = COMPILE) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(source), str(cache)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# -------------------------------------------------------------------------------------------- the real model


def test_the_catalogue_model(minilm: Path) -> None:
    bundle = read_bundle(minilm)
    verify_files(minilm, bundle)
    assert bundle.model_id == "sentence-transformers/all-MiniLM-L6-v2"
    assert (bundle.dimensions, bundle.max_seq_length, bundle.normalized) == (384, 256, True)
    assert bundle.inputs == ("input_ids", "attention_mask")
    assert bundle.provenance.route == "native"
    assert read_golden(minilm).reference.startswith("sentence-transformers")


def test_the_catalogue_model_gives_the_vectors_of_its_reference(minilm: Path) -> None:
    report = verify.check(minilm)
    assert report.passed
    assert report.worst_cosine > 0.999999
    assert report.worst_batch_cosine > 0.999999
    assert report.max_abs_difference < 1e-5


def test_the_warm_path_imports_nothing_heavy(minilm: Path, user_cache: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from models.compile import find_cached
print(find_cached({MINILM!r}, cache_dir=Path({str(user_cache)!r})))
heavy = ("onnx", "onnxruntime", "huggingface_hub", "safetensors", "tokenizers", "numpy", "google.protobuf")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(minilm), "[]"]


# -------------------------------------------------------------------------------------------- what is written


def test_a_bundle_is_complete(tmp_path: Path, compiled: Compile, said: list[str]) -> None:
    saved = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    folder = compiled(Tiny(saved=saved, config={"pad_token_id": 4}).write(tmp_path / "tiny"))
    bundle = read_bundle(folder)
    assert names(folder) == sorted([*bundle.files, "bundle.json"])
    assert (bundle.model_id, bundle.prompts, bundle.default_prompt_name) == ("tiny", {"query": "query: "}, "query")
    assert bundle.pad_token_id == 4
    assert bundle.provenance.checkpoint.keys() >= {"model.safetensors", "1_Pooling/config.json", "tokenizer.json"}
    assert read_golden(folder).reference == "compile"
    assert any(line.startswith("building the graph") for line in said)
    assert any(
        line.startswith("verified 8 texts against compile: cosine ≥ 0.99999") or "1.0000000" in line for line in said
    )


def test_other_users_may_read_it(tmp_path: Path, compiled: Compile) -> None:
    before = os.umask(0o022)
    try:
        folder = compiled(Tiny().write(tmp_path / "tiny"))
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_output_folder(tmp_path: Path, compiled: Compile) -> None:
    source, output = Tiny().write(tmp_path / "tiny"), tmp_path / "out"
    output.mkdir()
    assert compiled(source, output=output) == output
    first = read_bundle(output)
    Tiny(seed=1).write(source)
    compiled(source, output=output)
    assert read_bundle(output).files != first.files
    assert [name for name in names(tmp_path) if name.startswith((STAGING_PREFIX, "out"))] == ["out"]


def test_a_folder_of_something_else_is_not_overwritten(tmp_path: Path, compiled: Compile) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "precious.txt").write_text("x", "utf-8")
    with pytest.raises(StartupError, match="exists and is not a bundle"):
        compiled(Tiny().write(tmp_path / "tiny"), output=output)
    assert names(output) == ["precious.txt"]


def test_a_mount_point_is_refused_before_anything_is_compiled(tmp_path: Path, compiled: Compile) -> None:
    with pytest.raises(StartupError, match="/proc is a mount point"):
        compiled(Tiny().write(tmp_path / "tiny"), output=Path("/proc"))


@pytest.mark.parametrize(
    "name", ["m" * 250, "模" * 80, os.fsdecode(b"caf\xe9")], ids=["long", "long in bytes", "not UTF-8"]
)
def test_odd_names_of_folders(tmp_path: Path, compiled: Compile, name: str) -> None:
    source = Tiny().write(tmp_path / name)
    write_json(source / os.fsdecode(b"\xff.json"), {})
    bundle = read_bundle(compiled(source))
    assert bundle.model_id == os.fsencode(name).decode("utf-8", "replace")
    assert find_cached(str(source), cache_dir=tmp_path / "cache") == compiled(source)


def test_a_bundle_is_no_checkpoint(tmp_path: Path, compiled: Compile) -> None:
    with pytest.raises(CheckpointError, match="is a bundle already"):
        compiled(compiled(Tiny().write(tmp_path / "tiny")))


# -------------------------------------------------------------------------------------------- found again


def test_found_again_until_something_changes(tmp_path: Path, compiled: Compile, said: list[str]) -> None:
    cache = tmp_path / "cache"
    source = Tiny().write(tmp_path / "tiny")
    assert find_cached(str(source), cache_dir=cache) is None
    folder = compiled(source)
    assert find_cached(str(source), cache_dir=cache) == folder
    assert compiled(source) == folder
    assert said[-1] == f"already compiled: {folder}"

    (source / "README.md").write_text("not read by a compile", "utf-8")
    assert find_cached(str(source), cache_dir=cache) == folder

    tensors = load_file(source / "model.safetensors")  # same size: only the content differs
    save_file({name: value + 0.01 for name, value in tensors.items()}, source / "model.safetensors")
    assert find_cached(str(source), cache_dir=cache) is None
    assert compiled(source) != folder


def test_files_of_modules_in_deeper_folders_count(tmp_path: Path) -> None:
    for name in ("modules.json", "heads/2_Dense/config.json"):
        write_json(tmp_path / name, {})
    assert checkpoint_files(tmp_path) == ["heads/2_Dense/config.json", "modules.json"]


def test_checkpoints_below_a_folder_that_is_none_are_not_read(tmp_path: Path, compiled: Compile) -> None:
    Tiny().write(tmp_path / "models" / "tiny")
    assert checkpoint_files(tmp_path / "models") == []
    assert find_cached(str(tmp_path / "models"), cache_dir=tmp_path / "cache") is None
    with pytest.raises(CheckpointError, match="models is not a checkpoint"):
        compiled(tmp_path / "models")


@pytest.mark.parametrize("deep", ["a/b/c", "../outside", "/outside", "a/../../outside"])
def test_modules_whose_files_would_not_count_are_refused(tmp_path: Path, compiled: Compile, deep: str) -> None:
    """A changed file of theirs would be served from the bundle of the old one."""
    source = Tiny().write(tmp_path / "tiny")
    listed = json.loads((source / "modules.json").read_text("utf-8"))
    write_json(source / "modules.json", [*listed, listed[-1] | {"path": deep}])
    with pytest.raises(CheckpointError, match=r"Normalize lies in .*outside"):
        compiled(source)


def test_a_graph_in_a_module_two_folders_deep_counts(tmp_path: Path) -> None:
    for name in ("modules.json", "a/b/onnx/model.onnx"):
        write_json(tmp_path / name, {})
    assert checkpoint_files(tmp_path) == ["a/b/onnx/model.onnx", "modules.json"]


@pytest.mark.parametrize(
    "file", ["tokenizer.json", "1_Pooling/config.json", "sentence_bert_config.json", "config.json"]
)
def test_every_description_counts(tmp_path: Path, compiled: Compile, file: str) -> None:
    source = Tiny().write(tmp_path / "tiny")
    compiled(source)
    change_json(source / file, comment="")
    assert find_cached(str(source), cache_dir=tmp_path / "cache") is None


def test_options_count(tmp_path: Path, compiled: Compile) -> None:
    source = Tiny().write(tmp_path / "tiny")
    (source / "modules.json").unlink()
    assert compiled(source, pooling="cls") != compiled(source, pooling="mean")
    assert find_cached(str(source), cache_dir=tmp_path / "cache") is None


def test_a_wrong_graph_is_never_published(tmp_path: Path, compiled: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that disagrees stands for a compiler that is wrong."""
    record = verify.record_golden

    def disagreeing(*args: object, **kwargs: object) -> object:
        golden = record(*args, **kwargs)  # type: ignore[arg-type]
        return golden.model_copy(update={"vectors": golden.vectors[::-1]})

    monkeypatch.setattr(verify, "record_golden", disagreeing)
    with pytest.raises(CheckpointError, match="the compiled graph disagrees with compile: cosine"):
        compiled(Tiny().write(tmp_path / "tiny"))
    assert names(tmp_path / "cache" / "bundles") == []


# ---------------------------------------------------------------------------- several at once, or cut short


def test_two_processes_at_once_both_end_well(tmp_path: Path) -> None:
    source, cache = Tiny().write(tmp_path / "tiny"), tmp_path / "cache"
    processes = [start_compile(source, cache) for _ in range(3)]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    folders = {Path(out.strip()) for out, _ in results}
    assert len(folders) == 1
    assert verify.check(folders.pop()).passed
    assert len(names(cache / "bundles")) == 1


def test_two_processes_at_once_into_one_folder_both_end_well(tmp_path: Path) -> None:
    source, output = Tiny().write(tmp_path / "tiny"), tmp_path / "out" / "bundle"
    code = COMPILE.replace("say=", "output=Path(sys.argv[2]) / 'bundle', say=")
    processes = [start_compile(source, output.parent, code) for _ in range(2)]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert verify.check(output).passed
    assert [name for name in names(output.parent) if name.startswith(STAGING_PREFIX)] == []


def test_a_killed_compile_leaves_no_bundle(tmp_path: Path) -> None:
    source, cache = Tiny().write(tmp_path / "tiny"), tmp_path / "cache"
    pause = "import models.verify, time\nmodels.verify.check = lambda *_: (print('here', flush=True), time.sleep(60))\n"
    process = start_compile(source, cache, pause + COMPILE)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"  # everything is written but for the last rename
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = names(cache / "bundles")
    assert left.startswith(STAGING_PREFIX)
    assert find_cached(str(source), cache_dir=cache) is None

    folder = compile_checkpoint(str(source), cache_dir=cache, say=lambda _: None)
    assert names(cache / "bundles") == [left, folder.name]  # it might be another process's, still at work
    old = time.time() - 7200
    os.utime(cache / "bundles" / left, (old, old))
    Tiny(seed=1).write(source)
    other = compile_checkpoint(str(source), cache_dir=cache, say=lambda _: None)
    assert names(cache / "bundles") == sorted([folder.name, other.name])


def test_what_is_no_checkpoint_is_said_before_a_place_is_asked_for(tmp_path: Path) -> None:
    """Docker makes an empty folder of a path that is mistyped, and the cache may be one that nobody writes to."""
    (empty := tmp_path / "model").mkdir()
    (cache := tmp_path / "cache").mkdir()
    (cache / "bundles").write_text("in the way of a folder", "utf-8")
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        compile_checkpoint(str(empty), cache_dir=cache, say=lambda _: None)


# Short naps: a signal that comes just before one does not end it.
NAPS = "(print('here', flush=True), [time.sleep(0.05) for _ in range(1200)])"


@pytest.mark.parametrize("stage", ["models.heads.append", "models.verify.check"])
def test_a_compile_that_is_asked_to_end_leaves_nothing(tmp_path: Path, stage: str) -> None:
    source, cache = Tiny().write(tmp_path / "tiny"), tmp_path / "cache"
    pause = f"import {stage.rpartition('.')[0]}, time\n{stage} = lambda *_: {NAPS}\n"
    process = start_compile(source, cache, pause + COMPILE)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    assert names(cache / "bundles") != []
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "")
    assert names(cache / "bundles") == []
    assert verify.check(compile_checkpoint(str(source), cache_dir=cache, say=lambda _: None)).passed


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_server_that_is_asked_to_end_while_it_compiles_leaves_nothing(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    source, cache = Tiny().write(tmp_path / "tiny"), tmp_path / "cache"
    code = f"import models.verify, time\nmodels.verify.check = lambda *_: {NAPS}\n"
    code += "import sys\nfrom service.start import main\n"
    code += "sys.argv[1:] = ['serve', sys.argv[1], '--cache-dir', sys.argv[2], '--port', '0']\nsys.exit(main())"
    process = start_compile(source, cache, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in errors) == (status, False)
    assert names(cache / "bundles") == []


FULL = """
mount -t tmpfs -o size=$2 tmpfs "$1" || exit 77
cd {root}
head -c $3 /dev/zero > "$1/filler"
{python} -m service.cli compile "$4" --cache-dir "$1/cache"; echo "exit $?"
ls -A "$1/cache/bundles"; echo "free again"; rm "$1/filler"
{python} -m service.cli compile "$4" --cache-dir "$1/cache" && {python} -m service.cli check "$1"/cache/bundles/*
"""


@pytest.mark.parametrize("filler", [1_040_000, 960_000])
def test_a_disk_that_is_really_full(tmp_path: Path, filler: int) -> None:
    """Early and late: a small file system of its own, in a namespace of its own."""
    source = Tiny().write(tmp_path / "tiny")
    (tmp_path / "disk").mkdir()
    script = FULL.format(root=ROOT, python=sys.executable)
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    arguments = [str(tmp_path / "disk"), "1m", str(filler), str(source)]
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare on this machine")
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr}")
    assert "cannot be written: No space left on device" in done.stderr
    assert "free some space, or use another cache folder" in done.stderr
    assert "Traceback" not in done.stderr
    printed = done.stdout.splitlines()
    assert printed[:2] == ["exit 1", "free again"]
    assert "passed" in printed[-1], done.stderr


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    source, cache = Tiny().write(tmp_path / "tiny"), tmp_path / "cache"
    limit = f"import resource, signal\nresource.setrlimit(resource.RLIMIT_FSIZE, (8000, {resource.RLIM_INFINITY}))\n"
    limit += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    process = start_compile(source, cache, limit + COMPILE)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "StartupError" in errors
    assert "cannot be written: File too large" in errors
    assert names(cache / "bundles") == []


@pytest.mark.parametrize("source", ["no-such-model", "./missing/folder", "a/b/c", "~no-such-user/model"])
def test_unknown_sources(tmp_path: Path, compiled: Compile, source: str) -> None:
    with pytest.raises(SourceError, match="neither a folder, nor a file, nor a model known by name"):
        compiled(source)
    with pytest.raises(SourceError):
        find_cached(source, cache_dir=tmp_path)


def test_golden_vectors_are_unit_and_alone(tmp_path: Path, compiled: Compile) -> None:
    golden = read_golden(compiled(Tiny(normalize=False).write(tmp_path / "tiny")))
    np.testing.assert_allclose(np.linalg.norm(np.array(golden.vectors), axis=1), 1, atol=1e-6)
    assert golden.texts == verify.GOLDEN_TEXTS
    assert json.loads((ROOT / "models/golden/all-MiniLM-L6-v2.json").read_text("utf-8"))["texts"]
    assert len(golden.vectors[0]) == tiny.HIDDEN
