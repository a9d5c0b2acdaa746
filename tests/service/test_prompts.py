"""Task types and titles → prompts."""

from __future__ import annotations

import pytest

from service.prompts import INPUT_TYPES, TASK_PROMPTS, prompt_name_for, prompt_name_for_input_type, with_title


def test_a_task_finds_the_models_own_name_for_it() -> None:
    assert prompt_name_for("RETRIEVAL_QUERY", {"query": "q: ", "document": "d: "}) == "query"
    assert prompt_name_for("RETRIEVAL_DOCUMENT", {"search_document": "d: "}) == "search_document"
    assert prompt_name_for("FACT_VERIFICATION", {"query": "q: "}) == "query"


@pytest.mark.parametrize("task", sorted(TASK_PROMPTS))
def test_a_model_without_prompts_reads_the_text_as_it_is(task: str) -> None:
    assert prompt_name_for(task, {}) is None


def test_unknown_tasks_are_not_guessed() -> None:
    with pytest.raises(KeyError):
        prompt_name_for("SINGING", {"query": "q: "})


def test_every_word_for_an_input_is_a_task() -> None:
    assert set(INPUT_TYPES.values()) <= set(TASK_PROMPTS)


def test_a_prompt_of_that_very_name_comes_first() -> None:
    prompts = {"code.query": "c: ", "query": "q: ", "clustering": "k: ", "separation": "s: "}
    assert prompt_name_for_input_type("separation", prompts) == "separation"
    assert prompt_name_for_input_type("code.query", prompts) == "code.query"
    assert prompt_name_for_input_type("search_query", prompts) == "query"
    assert prompt_name_for_input_type("passage", prompts) is None
    with pytest.raises(KeyError):
        prompt_name_for_input_type("image", prompts)


def test_titles_go_where_the_prompt_has_room_and_above_the_text_otherwise() -> None:
    assert with_title("title: {title} | text: ", "T", "x") == ("title: T | text: ", "x")
    assert with_title("title: {title} | text: ", None, "x") == ("title: none | text: ", "x")
    assert with_title("d: ", "T", "x") == ("d: ", "T\nx")
    assert with_title("d: ", None, "x") == ("d: ", "x")
