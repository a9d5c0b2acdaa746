"""What clients call a task → the prompts that models ship with. Pure."""

from __future__ import annotations

from collections.abc import Mapping

# Vertex's task types, each with the prompt names that published sentence-transformers models use for it, best
# first. Models without any of them (all-MiniLM-L6-v2 has no prompts) read the text as it is.
TASK_PROMPTS: dict[str, tuple[str, ...]] = {
    "RETRIEVAL_QUERY": ("query", "search_query", "retrieval.query", "Retrieval-query"),
    "RETRIEVAL_DOCUMENT": (
        "document",
        "passage",
        "search_document",
        "retrieval.passage",
        "Retrieval-document",
    ),
    "SEMANTIC_SIMILARITY": ("STS", "sts", "text-matching", "similarity"),
    "CLASSIFICATION": ("classification", "Classification"),
    "CLUSTERING": ("clustering", "Clustering", "separation"),
    "QUESTION_ANSWERING": ("question answering", "question_answering", "query", "search_query"),
    "FACT_VERIFICATION": ("fact checking", "fact_verification", "query", "search_query"),
    "CODE_RETRIEVAL_QUERY": ("code retrieval", "code.query", "nl2code_query", "query", "search_query"),
}

# What Cohere, NVIDIA NIM and Voyage (input_type) and Jina (task) call them.
INPUT_TYPES: dict[str, str] = {
    "query": "RETRIEVAL_QUERY",
    "search_query": "RETRIEVAL_QUERY",
    "retrieval.query": "RETRIEVAL_QUERY",
    "document": "RETRIEVAL_DOCUMENT",
    "passage": "RETRIEVAL_DOCUMENT",
    "search_document": "RETRIEVAL_DOCUMENT",
    "retrieval.passage": "RETRIEVAL_DOCUMENT",
    "code.query": "CODE_RETRIEVAL_QUERY",
    "code.passage": "RETRIEVAL_DOCUMENT",
    "text-matching": "SEMANTIC_SIMILARITY",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
    "separation": "CLUSTERING",
}


def prompt_name_for(task: str, prompts: Mapping[str, str]) -> str | None:
    """The first of the task's prompt names that the model has; None for its default. Raises KeyError."""
    return next((name for name in TASK_PROMPTS[task] if name in prompts), None)


def prompt_name_for_input_type(word: str, prompts: Mapping[str, str]) -> str | None:
    """The prompt of that very name if the model has one, else that of the task the word means. Raises KeyError."""
    return word if word in prompts else prompt_name_for(INPUT_TYPES[word], prompts)


def with_title(prompt: str, title: str | None, text: str) -> tuple[str, str]:
    """(prompt, text) with a document's title in the prompt's `{title}`, else in a line above the text."""
    if "{title}" in prompt:
        return prompt.replace("{title}", title or "none"), text
    return prompt, f"{title}\n{text}" if title else text
