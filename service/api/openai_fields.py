"""What a body of /v1/embeddings may hold, and what it means. Pure.

OpenAI's own fields, and those that Jina, Voyage, Cohere, NVIDIA NIM and vLLM added to the same route. Several of them
mean the same thing; where two are sent they must agree. Whatever would change the vectors and cannot be had is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, WithJsonSchema

from service.api.long_input import LongInputFields, long_input_of
from service.api.wire import EmbeddingType
from service.choices import LongInput, OutputDtype, TruncationSide
from service.errors import InvalidInput, TooManyInputs
from service.prompts import INPUT_TYPES, prompt_name_for_input_type
from service.types import EmbedRequest, Input

_MAX_TOKEN_ID = 2**63 - 1

_TEXT_OBJECT = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
_INPUT_SCHEMA = {
    "description": "A text, several texts (or objects with a text), the token ids of one text, or those of several.",
    "oneOf": [
        {"type": "string"},
        {"type": "array", "items": {"oneOf": [{"type": "string"}, _TEXT_OBJECT]}, "minItems": 1, "maxItems": 2048},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 300_000},
        {
            "type": "array",
            "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            "minItems": 1,
            "maxItems": 2048,
        },
    ],
}
_Dtype = Literal["float", "int8", "uint8", "binary", "ubinary"]


class EmbeddingsRequest(LongInputFields):
    """Unknown fields are ignored and null means the default, as clients rely on both."""

    model_config = ConfigDict(strict=True, extra="ignore")

    # Looked at by hand (`parse_inputs`): a union of four list types would be tried four times over.
    input: Annotated[Any, WithJsonSchema(_INPUT_SCHEMA)]
    model: str | None = Field(None, description="A served model's name; missing or null means the default one.")
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="base64 is of the little-endian bytes of the output dtype, float32 where none is asked for."
    )
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None

    output_dimension: int | None = Field(None, ge=1, description="Voyage's and Cohere's word for dimensions.")
    prompt_name: str | None = Field(None, description="One of the model's own prompts, by its exact name.")
    input_type: str | None = Field(
        None, description=f"Cohere, NIM, Voyage: a prompt name of the model's, or one of {', '.join(INPUT_TYPES)}."
    )
    task: str | None = Field(None, description="Jina's word for input_type.")
    truncate: bool | Literal["NONE", "START", "END"] | None = Field(
        None,
        description="true or END cuts the end of an over-long input, START its beginning, false or NONE refuses it; "
        "absent, the model's setting rules.",
    )
    truncation: bool | None = Field(None, description="Voyage's word for truncate.")
    truncate_prompt_tokens: int | None = Field(
        None, ge=-1, description="vLLM: cut inputs to this many tokens; -1 to what the model reads."
    )
    truncation_side: TruncationSide | None = Field(None, description="vLLM: which end is cut off.")
    output_dtype: _Dtype | None = Field(
        None,
        description="int8 is round(x·127·√d/8) held to ±127, uint8 that plus 128; ubinary packs one bit a dimension "
        "(x > 0, highest bit first), binary is that minus 128. Anything but float is of the normalised vector.",
    )
    embedding_type: (
        EmbeddingType | Annotated[list[EmbeddingType], Field(min_length=1, max_length=1, fail_fast=True)] | None
    ) = Field(None, description="Jina's word for output_dtype, or for the encoding_format base64; one, also in a list.")
    embed_dtype: Literal["float32"] | None = Field(None, description="vLLM: only float32.")
    endianness: Literal["native", "little"] | None = Field(None, description="vLLM: only little.")
    normalized: bool | None = Field(None, description="Jina: false leaves vectors as the model makes them.")
    use_activation: bool | None = Field(None, description="vLLM's word for normalized.")
    add_special_tokens: Literal[True] | None = Field(None, description="vLLM: only true.")
    late_chunking: Literal[False] | None = Field(
        None, description="Jina: only false, as its inputs are parts of one text; `late` is for whole ones."
    )
    return_multivector: Literal[False] | None = Field(None, description="Jina: only false.")


_PLAIN = frozenset({"input", "model", "encoding_format", "dimensions", "user"})


@dataclass(frozen=True, slots=True)
class Options:
    """What the fields beside `input` and `model` come to. None: as the model says."""

    dimensions: int | None = None
    base64: bool = False
    dtype: OutputDtype = OutputDtype.FLOAT
    prompt_name: str | None = None
    long_input: LongInput | None = None
    truncation_side: TruncationSide | None = None
    max_sequence_length: int | None = None
    normalize: bool | None = True

    def request(self, inputs: Sequence[Input]) -> EmbedRequest:
        """For the pipeline."""
        return EmbedRequest(
            inputs,
            self.dimensions,
            self.long_input,
            self.truncation_side,
            self.max_sequence_length,
            normalize=self.normalize,
        )


_USUAL = (Options(), Options(base64=True))


def options_of(request: EmbeddingsRequest, prompts: Mapping[str, str]) -> Options:
    """`prompts` are the model's. Raises InvalidInput naming the field, or the fields that contradict each other."""
    base64 = request.encoding_format == "base64"
    if request.model_fields_set <= _PLAIN:  # nearly every request there is
        return _USUAL[base64] if request.dimensions is None else Options(request.dimensions, base64)
    kind = request.embedding_type[0] if isinstance(request.embedding_type, list) else request.embedding_type
    dtype = _dtype(request, "float" if kind == "base64" else kind)
    normalized = _agreed(normalized=request.normalized, use_activation=request.use_activation)
    return Options(
        _agreed(dimensions=request.dimensions, output_dimension=request.output_dimension),
        base64 or kind == "base64",
        dtype,
        _prompt_name(request, prompts),
        _long_input(request),
        _truncation_side(request),
        _max_sequence_length(request),
        None if normalized is False and dtype is OutputDtype.FLOAT else True,
    )


Value = TypeVar("Value")


def _agreed(**fields: Value | None) -> Value | None:
    """What fields that mean the same thing say. Raises InvalidInput where they say different things."""
    said = {name: value for name, value in fields.items() if value is not None}
    if len(set(said.values())) > 1:
        raise InvalidInput(f"{' and '.join(said)} contradict each other; send one of them.", next(iter(said)))
    return next(iter(said.values()), None)


def _dtype(request: EmbeddingsRequest, embedding_type: str | None) -> OutputDtype:
    embed_dtype = "float" if request.embed_dtype else None
    return OutputDtype(
        _agreed(output_dtype=request.output_dtype, embedding_type=embedding_type, embed_dtype=embed_dtype) or "float"
    )


def _prompt_name(request: EmbeddingsRequest, prompts: Mapping[str, str]) -> str | None:
    return _agreed(
        prompt_name=request.prompt_name,
        input_type=_prompt_meant("input_type", request.input_type, prompts),
        task=_prompt_meant("task", request.task, prompts),
    )


def _prompt_meant(field: str, word: str | None, prompts: Mapping[str, str]) -> str | None:
    if word is None:
        return None
    try:
        return prompt_name_for_input_type(word, prompts)
    except KeyError:
        known = ", ".join(sorted({*INPUT_TYPES, *prompts}))
        raise InvalidInput(f"{field} is none of {known}.", field) from None


def _long_input(request: EmbeddingsRequest) -> LongInput | None:
    return long_input_of(
        _agreed(
            truncate=None if request.truncate is None else request.truncate not in (False, "NONE"),
            truncation=request.truncation,
            truncate_prompt_tokens=None if request.truncate_prompt_tokens is None else True,
        )
    )


def _truncation_side(request: EmbeddingsRequest) -> TruncationSide | None:
    sides = {"START": TruncationSide.LEFT, "END": TruncationSide.RIGHT}
    side = sides[request.truncate] if isinstance(request.truncate, str) and request.truncate != "NONE" else None
    return _agreed(truncate=side, truncation_side=request.truncation_side)


def _max_sequence_length(request: EmbeddingsRequest) -> int | None:
    asked = request.truncate_prompt_tokens
    if asked == 0:
        raise InvalidInput("truncate_prompt_tokens is -1 or at least 1.", "truncate_prompt_tokens")
    return None if asked == -1 else asked


def parse_inputs(value: Any, limit: int) -> Sequence[str | list[int]]:
    """The forms of `input` as a list of texts or of token arrays. Raises InvalidInput, TooManyInputs."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise InvalidInput(f"input must be a string or an array, not {_json_type(value)}", "input")
    if not value:
        raise InvalidInput("input is an empty array", "input")
    kinds = set(map(type, value))
    if kinds == {int} and _is_token_ids(value):
        return [value]
    if len(value) > limit:
        raise TooManyInputs(limit, len(value), "input")
    if dict in kinds:
        value = [_text_in(i, one) if isinstance(one, dict) else one for i, one in enumerate(value)]
        kinds = set(map(type, value))
    if kinds == {str} or (kinds == {list} and all(map(_is_token_ids, value))):
        return value  # type: ignore[no-any-return]  # proved by the line above
    wrong = next(i for i, one in enumerate(value) if not _fits(one, value[0]))
    raise InvalidInput(
        f"input[{wrong}] is {_json_type(value[wrong])}; input is a string, an array of strings, an array of token "
        "ids, or an array of non-empty arrays of token ids, never a mixture",
        "input",
    )


def _text_in(index: int, one: dict[str, Any]) -> str:
    """Jina's {"text": "..."}."""
    if one.keys() == {"text"} and isinstance(one["text"], str):
        return one["text"]
    raise InvalidInput(f'input[{index}] is an object; only {{"text": "..."}} is understood', "input")


def _fits(one: Any, first: Any) -> bool:
    return isinstance(one, str) if isinstance(first, str) else isinstance(one, list) and _is_token_ids(one)


def _is_token_ids(value: list[Any]) -> bool:
    """JSON's integers alone: Python counts true and false among them, and 64 bits are enough for any vocabulary."""
    return bool(value) and all(type(one) is int and -_MAX_TOKEN_ID <= one <= _MAX_TOKEN_ID for one in value)


def _json_type(value: object) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")
