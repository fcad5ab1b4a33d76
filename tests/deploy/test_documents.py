"""What the documents tell people to type is typed here, as it stands, against a real server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from identity import vocabulary
from identity.troubles import SIGNALS
from locks.models import LockEventType
from tests.acceptance.test_up import SEEN, Up
from tests.deploy.cast import ROOT
from tests.server import Server, Template

DOCS = ROOT / "docs"
FENCE = re.compile(
    r"(?:<!-- (?P<note>[^>]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL
)
RUN = {
    "quickstart.md", "howto/any-program.md", "howto/python-robot.md", "howto/many-hosts.md",
    "howto/backup-and-failover.md",
}  # fmt: skip
PRODUCTION = {
    "WATCHDOG_PRODUCTION": "1",
    "SECRET_KEY": "of this test alone, and long enough to be taken for a secret one 0123456789",
    "ALLOWED_HOSTS": "watchdog.example.com",
    "WATCHDOG_TRUSTED_PROXIES": "1",
    "CELERY_BROKER_URL": "redis://127.0.0.1:6379/0",
}


@dataclass(frozen=True, slots=True)
class Block:
    """One thing to type, and what of its answer the document shows."""

    language: str
    text: str
    expected: tuple[str, ...] = ()


def blocks(document: str) -> Iterator[Block]:
    found = list(FENCE.finditer((DOCS / document).read_text()))
    for number, fence in enumerate(found):
        if fence["language"] not in ("sh", "python") or fence["note"] == "keeps running":
            continue
        after = found[number + 1] if number + 1 < len(found) else None
        shown = after["text"] if after is not None and after["language"] == "text" else ""
        yield Block(fence["language"], fence["text"], tuple(shown.splitlines()))


class Reader:
    """Types what he reads, in one shell for a whole document."""

    def __init__(self, server: Server | Up, environment: dict[str, str]) -> None:
        self.server = server
        self.environment = server.environment | environment
        self.said = ""

    def follow(self, document: str) -> None:
        script = ["set -u"]
        expected = []
        for block in blocks(document):
            text = block.text
            if block.language == "python":
                text = f"python3 - <<'END_OF_PYTHON'\n{text}END_OF_PYTHON\n"
            script += [self.here(text), "echo '-- next --'"]
            expected.append(block)
        # Kept in a file: a command that reads its input must not read the rest of the document.
        path = self.server.home / "document.sh"
        path.write_text("\n".join(script))
        done = subprocess.run(
            ["bash", "-e", str(path)],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        answers = done.stdout.split("-- next --\n")
        for block, answer in zip(expected, answers, strict=False):
            for line in block.expected:
                assert line in answer, f"{block.text}\nanswered\n{answer}\nand not\n{line}"
        self.said = done.stdout

    def here(self, text: str) -> str:
        """The same on this test's port, Python and state folder."""
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{self.server.port}")
        text = text.replace("$PWD/var/", "var/").replace("var/", f"{self.server.home}/")
        return re.sub(r"\bpython3\b", sys.executable, text)


@pytest.fixture
def reader(server_template: Template, tmp_path: Path) -> Iterator[Reader]:
    running = Server(server_template, tmp_path / "home")
    running.key_file.chmod(0o600)
    (running.home / "robots").mkdir()
    running.start()
    yield Reader(running, {"WATCHDOG_URL": running.url, "WATCHDOG_API_KEY": running.keys["robot"]})
    running.stop()


@pytest.mark.sqlite_only
def test_the_quickstart_works_as_it_stands_beside_up(tmp_path: Path) -> None:
    (begun,) = [fence for fence in FENCE.finditer(documented("quickstart.md")) if fence["note"]]
    assert begun["text"] == "python3 manage.py up\n", "what is started below"
    up = Up(tmp_path / "home")
    try:
        up.ready()
        # A reader takes minutes to come to the doctor, which wants to have seen the reaper.
        up.wait_for(lambda: "reap_stale_locks" in up.shell(SEEN))
        Reader(up, {}).follow("quickstart.md")
    finally:
        up.end()
    assert up.left_behind() == []


@pytest.mark.sqlite_only
@pytest.mark.parametrize("document", ["howto/any-program.md", "howto/python-robot.md"])
def test_what_a_how_to_says_works_as_it_stands(document: str, reader: Reader) -> None:
    reader.follow(document)


@pytest.mark.sqlite_only
def test_the_steps_for_many_hosts_work_with_the_production_settings(
    server_template: Template, tmp_path: Path
) -> None:
    server = Server(server_template, tmp_path / "home")
    database = {"DATABASE_URL": f"sqlite:///{server.home}/watchdog.sqlite3"}
    Reader(server, PRODUCTION | database).follow("howto/many-hosts.md")


@pytest.mark.sqlite_only
def test_the_steps_after_a_disaster_work_as_they_stand(
    server_template: Template, tmp_path: Path
) -> None:
    Reader(Server(server_template, tmp_path / "home"), {}).follow("howto/backup-and-failover.md")


def test_every_block_to_type_is_run_by_a_test() -> None:
    """Blocks without a language are for a reader's eyes in the older explanations alone."""
    pages = ["quickstart.md", *(f"howto/{path.name}" for path in (DOCS / "howto").glob("*.md"))]
    for page in pages:
        for fence in FENCE.finditer((DOCS / page).read_text()):
            assert fence["language"] in ("sh", "python", "text"), f"{page}: {fence[0]}"
            assert page in RUN, page


def documented(page: str) -> str:
    return (DOCS / page).read_text()


def test_every_command_of_ours_is_in_the_reference_with_options_that_it_has() -> None:
    text = documented("reference/commands.md")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
    ours = {name for name, app in get_commands().items() if app == "watchdog_project"}
    assert rows.keys() == ours
    for name, told in rows.items():
        if name == "test":
            continue
        options = load_command_class("watchdog_project", name).create_parser("manage.py", name)
        for option in re.findall(r"`(--[\w-]+)", told):
            assert option in options.format_help(), f"{name} {option}"


def test_every_fixed_event_is_in_the_reference() -> None:
    told = set(re.findall(r"`([A-Z_]+…?)`", documented("reference/events.md")))
    fixed = {one.value for one in LockEventType} | {
        vocabulary.INVARIANTS_STATUS, vocabulary.SELF_TEST, vocabulary.ENGINE_START,
        vocabulary.ENGINE_STOP, vocabulary.DUPLICATE_INSTANCE, *SIGNALS,
        *(f"{prefix}…" for prefix in vocabulary.IDENTITY_PREFIXES),
    }  # fmt: skip
    assert told == fixed


def test_no_link_of_the_documents_leads_nowhere() -> None:
    broken = []
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []
