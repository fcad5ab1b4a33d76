"""The schema is what the server does: checked in, whole, and tried against a real server."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from jsonschema import Draft202012Validator

from tests.server import ROOT, Server, Template
from watchdog_project.api_reference import ADDRESSES, ALWAYS, KEYED, REFUSALS
from watchdog_project.openapi import example_of

CHECKED_IN = ROOT / "docs" / "openapi.yaml"
MAKE_ANEW = "python manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml"
# The same ones each time; with --chaos-minutes more, chosen anew.
EXAMPLES, MORE_EXAMPLES = 12, 60


@pytest.fixture(scope="module")
def schema() -> Any:
    return yaml.safe_load(CHECKED_IN.read_text("utf-8"))


def test_the_schema_that_is_checked_in_is_the_servers(tmp_path: Path) -> None:
    made = tmp_path / "openapi.yaml"

    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(made))

    assert made.read_text("utf-8") == CHECKED_IN.read_text("utf-8"), f"make it anew: {MAKE_ANEW}"


def test_every_method_of_every_address_has_its_refusals_and_a_tag(schema: Any) -> None:
    there = {
        (method.upper(), path) for path, methods in schema["paths"].items() for method in methods
    }

    assert there == set(ADDRESSES)
    tags = {tag["name"] for tag in schema["tags"]}
    assert {known.tag for known in ADDRESSES.values()} <= tags
    for (method, path), known in ADDRESSES.items():
        told = schema["paths"][path][method.lower()]
        assert told["summary"] == known.summary
        assert told.get("description"), f"{method} {path} says nothing of itself"
        for code in (*known.refusals, *ALWAYS, *(KEYED if known.keyed else ())):
            assert f"{code}:" in yaml.safe_dump(told), (method, path, code)


def test_every_refusal_that_the_code_can_give_is_told_of() -> None:
    """Read from the source: the codes of what is raised, and of REST framework's own errors."""
    said = {name for known in ADDRESSES.values() for name in known.refusals} | {*ALWAYS, *KEYED}
    # Only the schema's own address has more than one form to choose from.
    assert set(REFUSALS) == said | {"NOT_ACCEPTABLE"}
    assert _codes_in_source() - set(REFUSALS) == set()


def test_the_reference_tells_what_to_do_about_every_refusal() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[A-Z_`, ]+) \| (\d+)[^|]* \| (.+) \|$", page, re.MULTILINE)
    told = {code: int(status) for codes, status, _ in rows for code in re.findall("[A-Z_]+", codes)}

    assert told == {code: refusal.status for code, refusal in REFUSALS.items()}
    assert MAKE_ANEW in page


def _codes_in_source() -> set[str]:
    raising = {"LockRefused", "problem", "plain_problem"}
    found: set[str] = set()
    for package in ("locks", "identity", "watchdog_project"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in raising:
                    found |= {
                        one.value
                        for one in node.args[:1]
                        if isinstance(one, ast.Constant) and isinstance(one.value, str)
                    }
                if isinstance(node, ast.Assign) and any(
                    getattr(target, "id", "") == "default_code" for target in node.targets
                ):
                    found.add(ast.literal_eval(node.value))
    assert len(found) > 10
    return {code for code in found if re.fullmatch("[A-Z_]+", code)}


def resolved(schema: Any, part: Any) -> Any:
    """A schema's part for jsonschema: references followed, OpenAPI 3.0's `nullable` translated."""
    if isinstance(part, list):
        return [resolved(schema, one) for one in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        return resolved(schema, schema["components"]["schemas"][name])
    inner = {key: resolved(schema, value) for key, value in part.items()}
    if inner.pop("nullable", False):
        return {"anyOf": [inner, {"type": "null"}]}
    return inner


def bodies(schema: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where, its schema, and an example, for every example of the schema."""
    for path, methods in schema["paths"].items():
        for method, told in methods.items():
            parts = [told.get("requestBody", {}), *told["responses"].values()]
            for content in (one for part in parts for one in part.get("content", {}).items()):
                media, about = content
                given = [about["example"]] if "example" in about else []
                given += [one["value"] for one in about.get("examples", {}).values()]
                for example in given:
                    yield f"{method} {path} {media}", about["schema"], example


def test_every_example_is_what_the_schema_says(schema: Any) -> None:
    checked = 0
    for where, told, example in bodies(schema):
        wrong = list(Draft202012Validator(resolved(schema, told)).iter_errors(example))
        assert not wrong, (where, example, wrong)
        checked += 1

    assert checked > 150


def test_a_problem_has_its_members_and_says_what_to_do() -> None:
    for code, refusal in REFUSALS.items():
        body = example_of(code, refusal.status)
        assert body["code"] == code
        assert len(body["detail"]) > 20


FILL = """
from tests.watchdog import console_rows
console_rows.everything()
"""


@pytest.fixture(params=["empty", "full"])
def tried(
    request: pytest.FixtureRequest, server_template: Template, tmp_path: Path
) -> Iterator[Server]:
    running = Server(server_template, tmp_path / "home")
    # What is tried is the answers, not how often one may ask for them.
    running.environment["WATCHDOG_KEY_REQUESTS_PER_SECOND"] = "100000"
    if request.param == "full":
        filled = running.manage("shell", "-v0", "-c", FILL)
        assert filled.returncode == 0, filled.stderr
    running.start()
    yield running
    running.stop()


@pytest.mark.timeout(300)
def test_the_server_answers_as_the_schema_says_whatever_is_sent(
    tried: Server, tmp_path: Path, tell: Callable[[str], None], request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--chaos-minutes"):
        amount = ["--max-examples", str(MORE_EXAMPLES)]
    else:
        amount = ["--max-examples", str(EXAMPLES), "--generation-deterministic"]
    configured = str(ROOT / "tests" / "schemathesis.toml")
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", configured,
            "--no-color", "run", str(CHECKED_IN), "--url", tried.url,
            "-H", f"Authorization: Api-Key {tried.keys['operator']}",
            "--checks", "all", "--phases", "examples,coverage,fuzzing",
            "--no-shrink", "--continue-on-failure", "--warnings", "off", *amount,
        ],
        # It leaves a folder of its own where it runs.
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(ROOT / "tests" / "schemathesis_hooks.py")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Traceback" not in tried.log.read_text()
    (told,) = re.findall(r"^  (\d+) generated, .*$", done.stdout, re.MULTILINE)
    assert int(told) > 1000
    tell(f"schemathesis, all checks: {told} requests, 0 failures")
