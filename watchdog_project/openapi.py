"""The API's schema, made whole: tags, examples, and every refusal that an address can give."""

from __future__ import annotations

import json
from collections import defaultdict
from http import HTTPStatus
from typing import Any

from watchdog_project.api_reference import (
    ADDRESSES,
    ALWAYS,
    ELSEWHERE,
    KEYED,
    REFUSALS,
    Address,
    Json,
)
from watchdog_project.problems import CONTENT_TYPE, problem_body

PROBLEM = "Problem"
PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457; `code` is stable and meant for programs, `detail` for people.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "request_id": {"type": "string", "description": "to find it in the server's log"},
    },
    "required": ["type", "title", "status", "code", "detail"],
    "additionalProperties": True,
}
RETRY_AFTER = {
    "Retry-After": {
        "description": "whole seconds, rounded up",
        "schema": {"type": "integer", "minimum": 0},
    }
}
WAITS = {HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
MARKET_FIELDS = ["execution_instrument", "canonical_instrument"]


def complete(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """drf-spectacular's last step: the schema as its views gave it -> what we publish."""
    for path, methods in result["paths"].items():
        for method, operation in methods.items():
            known = ADDRESSES.get((method.upper(), path))
            if known is not None:
                _tell(operation, path, known)
    _tell_what_events_may_be(result["paths"]["/api/events"]["post"])
    schemas = result["components"]["schemas"]
    schemas[PROBLEM] = PROBLEM_SCHEMA
    if "AcquireBody" in schemas:
        _tell_kinds_apart(schemas)
    return result


def _tell(operation: dict[str, Any], path: str, known: Address) -> None:
    operation["tags"], operation["summary"] = [known.tag], known.summary
    if not known.keyed:
        operation["security"] = [{}]
    if known.request is not None:
        for content in operation["requestBody"]["content"].values():
            content["example"] = known.request
    answers = operation["responses"]
    for status, answer in answers.items():
        answer["description"] = answer.get("description") or HTTPStatus(int(status)).phrase
        if known.answer is not None and status == "200":
            answer["content"]["application/json"]["example"] = known.answer
    codes = dict.fromkeys((*known.refusals, *ALWAYS, *(KEYED if known.keyed else ())))
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in codes:
        by_status[_status(code, path)].append(code)
    for number in sorted(by_status):
        # A 503 of readyz is an answer of its own.
        answers.setdefault(str(number), {})
        if "content" not in answers[str(number)] or CONTENT_TYPE in answers[str(number)]["content"]:
            answers[str(number)] = _problem(number, by_status[number])
    operation["responses"] = dict(sorted(answers.items()))


def _status(code: str, path: str) -> int:
    other = [
        status
        for (name, prefix), status in ELSEWHERE.items()
        if name == code and path.startswith(prefix)
    ]
    return other[0] if other else REFUSALS[code].status


def _problem(status: int, codes: list[str]) -> dict[str, Any]:
    """The answer of one status: which codes it can carry, with an example of each."""
    told: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {
            CONTENT_TYPE: {
                "schema": {
                    "allOf": [
                        {"$ref": f"#/components/schemas/{PROBLEM}"},
                        {"type": "object", "properties": {"code": {"enum": codes}}},
                    ]
                },
                "examples": {code: {"value": example_of(code, status)} for code in codes},
            }
        },
    }
    if status in WAITS:
        told["headers"] = RETRY_AFTER
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        told["headers"] = {"Allow": {"schema": {"type": "string"}}}
    return told


def example_of(code: str, status: int) -> Json:
    """A problem of this code as it is on the wire."""
    refusal = REFUSALS[code]
    # The id of the request that asks for the schema is no example of anything.
    return {
        **problem_body(code, status, refusal.detail, refusal.more),
        "request_id": "8f14e45fceea167a5a36dedd4bea2543",
    }


def _tell_what_events_may_be(operation: dict[str, Any]) -> None:
    """Anything that is JSON is taken, item by item: a bad one costs only itself."""
    operation["requestBody"]["required"] = True
    content = operation["requestBody"]["content"]
    content["application/json"]["schema"] = {
        "description": "One event, or a list of at most 1,000; an item that is none is rejected.",
    }
    content["application/x-ndjson"] = {
        "schema": {"description": "One event a line, at most 1,000.", "minLength": 1},
        "example": "\n".join(json.dumps(event) for event in content["application/json"]["example"]),
    }


def _tell_kinds_apart(schemas: dict[str, Any]) -> None:
    """A market is asked for by its instruments, every other lock by its name."""
    whole = schemas["AcquireBody"]
    kinds = schemas["KindEnum"]["enum"]

    def narrowed(name: str, allowed: list[str], demanded: list[str], required: list[str]) -> None:
        fields = {field: dict(about) for field, about in whole["properties"].items()}
        fields["kind"] = {"type": "string", "enum": allowed}
        for field in demanded:
            fields[field] = {"minLength": 1, **fields[field]}
            fields[field].pop("default", None)
        schemas[name] = {**whole, "properties": fields, "required": sorted(required)}

    always = whole["required"]
    market, *others = kinds
    narrowed("AcquireMarketBody", [market], MARKET_FIELDS, [*always, *MARKET_FIELDS])
    schemas["AcquireMarketBody"]["properties"]["kind"]["default"] = market
    narrowed("AcquireOtherBody", others, ["name"], [*always, "kind", "name"])
    schemas["AcquireBody"] = {
        "oneOf": [
            {"$ref": "#/components/schemas/AcquireMarketBody"},
            {"$ref": "#/components/schemas/AcquireOtherBody"},
        ]
    }
