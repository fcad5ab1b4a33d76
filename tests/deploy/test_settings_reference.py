"""The reference tells every variable that the code reads, and none that it does not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.deploy.cast import ROOT, environment_example

PACKAGES = ("canonical_guard", "locks", "identity", "watchdog_project")
REFERENCE = (ROOT / "docs" / "reference" / "settings.md").read_text()
# The guard hands these to its child, systems give the others; nobody sets them for us.
NOT_SETTINGS = {
    "WATCHDOG_RUN_ID",
    "WATCHDOG_FENCING_TOKEN",
    "WATCHDOG_CANONICAL_INSTRUMENT",
    "WATCHDOG_TAKEOVER",
    "PROGRAMDATA",
    "DJANGO_SETTINGS_MODULE",
}
# Only compose itself reads it.
OF_COMPOSE = {"POSTGRES_PASSWORD"}


def read_by(tree: ast.Module, constants: dict[str, str]) -> Iterator[str]:
    """Names that a module asks the environment for, in whatever way ours do."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            source = ast.unparse(node.func.value)
            if source == "env" or source.endswith("environ"):
                yield from _name(node.args[0], constants)
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
            yield from _name(node.slice, constants)


def _name(node: ast.expr, constants: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.Name) and node.id in constants:
        yield constants[node.id]


def constants_of(tree: ast.Module) -> dict[str, str]:
    """Names of variables that a module keeps as constants, and others import."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.endswith("_VARIABLE")
    }


def read_by_the_code() -> set[str]:
    trees = [
        ast.parse(path.read_text())
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    ]
    constants: dict[str, str] = {}
    for tree in trees:
        constants |= constants_of(tree)
    return {name for tree in trees for name in read_by(tree, constants)} - NOT_SETTINGS


def told() -> set[str]:
    return set(re.findall(r"^\| `([A-Z_]+)` \|", REFERENCE, re.MULTILINE))


def test_the_reference_tells_what_the_code_reads() -> None:
    assert told() == read_by_the_code()


def test_the_scan_finds_each_way_of_asking() -> None:
    assert {"WATCHDOG_HOME", "DATABASE_URL", "WATCHDOG_API_KEY"} <= read_by_the_code()
    assert {"WATCHDOG_PROJECT_ROOT", "WATCHDOG_ALLOW_NETWORK_FILE_SYSTEM"} <= read_by_the_code()


def test_the_example_sets_only_what_there_is() -> None:
    assert environment_example().keys() - OF_COMPOSE <= told()
