"""Where settings come from, which source wins, and that every one of them is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import StartupError
from service.settings import Settings, load_settings, reference_table, replace_table, unknown_variables

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "ADMIN_PORT", "CONFIG", "CACHE_DIR", "API_KEYS", "MODEL"):
        monkeypatch.delenv(f"EMBEDSERVE_{name}", raising=False)
    for name in ("AIP_HTTP_PORT", "AIP_PREDICT_ROUTE", "AIP_HEALTH_ROUTE"):
        monkeypatch.delenv(name, raising=False)


def toml(folder: Path, text: str) -> str:
    path = folder / "embedserve.toml"
    path.write_text(text)
    return str(path)


def test_flags_win_over_environment_over_vertex_over_file_over_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load_settings().port == 8080
    monkeypatch.setenv("EMBEDSERVE_CONFIG", toml(tmp_path, "port = 1\nmax_batch_tokens = 7"))
    assert load_settings().port == 1
    monkeypatch.setenv("AIP_HTTP_PORT", "2")
    assert load_settings().port == 2
    monkeypatch.setenv("EMBEDSERVE_PORT", "3")
    assert load_settings().port == 3
    assert load_settings({"port": "4", "host": None}).port == 4
    assert load_settings().max_batch_tokens == 7


def test_vertex_containers_listen_on_every_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().host == "127.0.0.1"
    monkeypatch.setenv("AIP_HTTP_PORT", "8081")
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/predict")
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/health")
    found = load_settings()
    assert (found.host, found.port, found.predict_route, found.health_route) == ("0.0.0.0", 8081, "/predict", "/health")


def test_lists_are_split_at_commas_and_keys_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDSERVE_API_KEYS", " key-one, key-two ,")
    found = load_settings({"model_aliases": "a,b"})
    assert found.model_aliases == ("a", "b")
    assert [key.get_secret_value() for key in found.api_keys] == ["key-one", "key-two"]
    assert "key-one" not in repr(found)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ({"port": "eighty"}, ["port", "--port", "EMBEDSERVE_PORT"]),
        ({"port": "65536"}, ["port", "65535"]),
        ({"executors": "0"}, ["--executors"]),
        ({"long_input": "ignore"}, ["--long-input", "chunk", "truncate", "reject"]),
        ({"token_ids": "p50k"}, ["--token-ids"]),
        ({"request_timeout": "-1"}, ["--request-timeout"]),
        ({"predict_route": "predict"}, ["--predict-route", "begins with /"]),
        ({"api_keys": " , "}, ["--api-keys", "holds no key"]),
        ({"api_keys": ""}, ["--api-keys", "holds no key"]),
    ],
)
def test_a_wrong_value_is_named_with_the_places_to_mend_it(flags: dict[str, str], names: list[str]) -> None:
    with pytest.raises(StartupError) as refused:
        load_settings(flags)
    assert all(name in str(refused.value) for name in names)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("prot = 1", "no setting named 'prot'"),
        ("port = ", "not TOML"),
        ('port = "x"', "port is not valid"),
        ("tokens_per_minute = true", "tokens_per_minute is not valid: .*true or false"),
        ("max_queue_seconds = true", "max_queue_seconds is not valid: .*true or false"),
        ("chunk_overlap = false", "chunk_overlap is not valid: .*true or false"),
        ("cache_dir = true", "cache_dir is not valid: .*true or false"),
        ('[[models]]\nmodel = "a"\nweight = true', "line 3: weight is not valid: .*true or false"),
    ],
)
def test_a_wrong_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, complaint: str) -> None:
    monkeypatch.setenv("EMBEDSERVE_CONFIG", toml(tmp_path, text))
    with pytest.raises(StartupError, match=complaint):
        load_settings()


def test_what_is_true_or_false_may_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = 'docs = false\nstrict = true\n[[models]]\nmodel = "a"\nreturn_chunks = true'
    monkeypatch.setenv("EMBEDSERVE_CONFIG", toml(tmp_path, text))
    found = load_settings()
    assert (found.docs, found.strict, found.models[0].return_chunks) == (False, True, True)


def test_a_missing_file_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMBEDSERVE_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(StartupError, match="does not exist"):
        load_settings()


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_readme_has_the_table_of_these_settings() -> None:
    text = README.read_text("utf-8")
    assert reference_table() in text
    assert replace_table(text) == text, "run: make docs"


@pytest.fixture
def service_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Kubernetes sets in pods beside the chart's Services, where they have the chart's own name."""
    for service, number in (("EMBEDSERVE", "8080"), ("EMBEDSERVE_ADMIN", "8081")):
        address = f"tcp://10.0.0.1:{number}"
        monkeypatch.setenv(f"{service}_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv(f"{service}_SERVICE_PORT", number)
        monkeypatch.setenv(f"{service}_PORT", address)
        monkeypatch.setenv(f"{service}_PORT_{number}_TCP", address)
        monkeypatch.setenv(f"{service}_PORT_{number}_TCP_ADDR", "10.0.0.1")


@pytest.mark.usefixtures("service_links")
def test_what_kubernetes_sets_beside_a_service_of_our_name_is_not_ours() -> None:
    assert (load_settings().port, load_settings().admin_port) == (8080, None)
    assert unknown_variables() == []


@pytest.mark.usefixtures("service_links")
def test_what_kubernetes_sets_hides_no_port_of_the_file_or_vertex(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMBEDSERVE_CONFIG", toml(tmp_path, "port = 9000\nadmin_port = 9001"))
    assert (load_settings().port, load_settings().admin_port) == (9000, 9001)
    monkeypatch.setenv("AIP_HTTP_PORT", "9002")
    assert load_settings().port == 9002


def test_an_address_of_kubernetes_is_a_port_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDSERVE_CONFIG", toml(tmp_path, 'port = "tcp://10.0.0.1:8080"'))
    with pytest.raises(StartupError, match="the setting port is not valid"):
        load_settings()


def test_misspelt_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDSERVE_MAX_BATCH_TOKENZ", "1")
    monkeypatch.setenv("EMBEDSERVE_MAX_BATCH_TOKENS", "1")
    assert unknown_variables() == ["EMBEDSERVE_MAX_BATCH_TOKENZ"]


# --- several models -------------------------------------------------------------------------------------------


def file(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    monkeypatch.setenv("EMBEDSERVE_CONFIG", toml(folder, text))


def test_a_table_wins_over_what_is_said_for_all_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file(
        monkeypatch,
        tmp_path,
        """
        max_batch_tokens = 7
        precision = "int8"
        [[models]]
        model = "a"
        [[models]]
        model = "b"
        name = "second"
        aliases = ["c", "d"]
        precision = "fp32"
        [models.prompts]
        query = "query: "
        """,
    )
    monkeypatch.setenv("EMBEDSERVE_LONG_INPUT", "reject")
    first, second = load_settings({"max_batch_tokens": "9"}).served()
    assert (first.model, first.name, first.precision, first.max_batch_tokens) == ("a", None, "int8", 9)
    assert (second.name, second.aliases, second.precision) == ("second", ("c", "d"), "fp32")
    assert first.long_input == second.long_input == "reject"
    assert (first.prompts, second.prompts) == ({}, {"query": "query: "})
    # What is not set is left to `embedserve tune`.
    assert first.model_fields_set == {"model", "precision", "max_batch_tokens", "long_input"}


def test_one_model_is_one_that_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDSERVE_PROMPTS", '{"query": "query: "}')
    (only,) = load_settings({"model": "a", "served_model_name": "b", "model_aliases": "c,d"}).served()
    assert (only.model, only.name, only.aliases, only.prompts) == ("a", "b", ("c", "d"), {"query": "query: "})
    assert "executors" not in only.model_fields_set


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('[[models]]\nmodel = "a"\n\nlonginput = "chunk"\n', 4, "no setting named 'longinput'"),
        ('[[models]]\nmodel = "a"\n[[models]]\nname = "b"\n', 3, "no 'model'"),
        ('[[models]]\nmodel = "a"\nname = "weight"\nweight = 0\n', 4, "weight"),
        ('[[models]]\nmodel = "a"\nexecutors = 2\n', 3, "shared by all"),
        ('[[models]]\nmodel = "a"\n[models.prompts]\nquery = 7\n', 3, "prompts"),
        ('[[models]]\nmodel = "a"\n[[models]]\nmodel = "b"\nprecision = "int4"\n', 5, "precision"),
        ('max_batch = 7\n[[models]]\nmodel = "a"\n', 1, "no setting named 'max_batch'"),
        ('[[models]]\nmodel = "a"\nload_at_start = false\n', 2, "needs a name"),
        ('[[models]]\nmodel = "gs://b/f"\nname = "a"\nload_at_start = false\n', 2, "read at the start alone"),
        ('# x\nhost = "::"\n[x]\ny = 1\n', 3, "no setting named 'x'"),
    ],
)
def test_a_line_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, line: int, reason: str
) -> None:
    file(monkeypatch, tmp_path, text)
    with pytest.raises(StartupError) as refused:
        load_settings()
    assert f"embedserve.toml, line {line}: " in refused.value.message
    assert reason in refused.value.message
    assert refused.value.remedy


@pytest.mark.parametrize("name", ["model", "served_model_name", "model_aliases"])
def test_a_file_of_models_and_one_beside_it_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    file(monkeypatch, tmp_path, '[[models]]\nmodel = "a"\n')
    with pytest.raises(StartupError, match="is set, and"):
        load_settings({name: "b"})


def test_some_model_is_there_from_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file(monkeypatch, tmp_path, '[[models]]\nmodel = "a"\nname = "a"\nload_at_start = false\n')
    with pytest.raises(StartupError, match="no model is loaded"):
        load_settings()


def test_paths_of_models_are_from_the_files_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And not from where the command is run, nor is one of them asked of the hub by mistake."""
    for name in ("file/org/mine", "file/both", "here/both", "here/org/there", "beside"):
        (tmp_path / name).mkdir(parents=True)
    models = ("org/mine", "./both", "../beside", "org/there", "org/hub", "all-MiniLM-L6-v2", f"{tmp_path}/nowhere")
    file(monkeypatch, tmp_path / "file", "".join(f'[[models]]\nmodel = "{one}"\n' for one in models))
    monkeypatch.chdir(tmp_path / "here")
    beside = [str(tmp_path / one) for one in ("file/org/mine", "file/both", "beside")]
    assert [one.model for one in load_settings().served()] == [*beside, *models[3:]]
    monkeypatch.setenv("EMBEDSERVE_CONFIG", "../file/embedserve.toml")
    assert [one.model for one in load_settings().served()] == [*beside, *models[3:]]


def test_a_path_below_a_home_that_nobody_has_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file(monkeypatch, tmp_path, 'model = "~nobody-has-this-name/mine"\n')
    assert load_settings().model == "~nobody-has-this-name/mine"


def test_a_path_of_a_flag_is_from_the_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    file(monkeypatch, tmp_path, 'model = "mine"\n')
    assert load_settings().model == str(tmp_path / "mine")
    assert load_settings({"model": "mine"}).model == "mine"
