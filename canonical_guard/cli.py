"""The command line: `canonical_guard run` and `canonical_guard status`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from canonical_guard.errors import EX_USAGE, GuardError, InvalidConfiguration

_EPILOG = """\
exit status of run: 75 already active, 69 no authority, 70 lease lost, 64 usage,
127 or 126 command not found or not executable, else the command's own (128+n for signal n)

environment: WATCHDOG_URL, WATCHDOG_API_KEY, WATCHDOG_PROJECT_ROOT,
WATCHDOG_ALLOW_NETWORK_FILE_SYSTEM=1
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        _say("USAGE", f"{message}.")
        raise SystemExit(EX_USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; usage errors raise SystemExit(64)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own, command = given, None
    if "--" in given:
        cut = given.index("--")
        own, command = given[:cut], given[cut + 1 :]
    parser = _parser()
    options = parser.parse_args(own)
    try:
        if options.action == "status":
            if command:
                parser.error("status takes no command")
            return _status(options)
        if not command:
            parser.error("run needs a command after `--`, as in: run MES -- ./robot --live")
        return _run(options, command)
    except GuardError as exc:
        _say(exc.code, str(exc))
        return exc.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="canonical_guard",
        description="At most one executor per canonical market.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="run|status")
    run = actions.add_parser(
        "run",
        help="run a command while its market is held",
        usage="%(prog)s MARKET [options] -- COMMAND...",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    run.add_argument("market", metavar="MARKET", help="what the robot trades: MES, MES 03-26, ...")
    run.add_argument("--server", metavar="URL", help="the lock authority (default: WATCHDOG_URL)")
    run.add_argument(
        "--api-key-file", metavar="F", type=Path, help="file with the API key (WATCHDOG_API_KEY)"
    )
    run.add_argument("--host-only", action="store_true", help="guard this host alone, no server")
    run.add_argument(
        "--observe", action="store_true", help="report what would have happened, never block"
    )
    run.add_argument("--account", metavar="A", help="for a market exclusive per account")
    run.add_argument(
        "--stop-on-kill-switch", action="store_true", help="stop the command on a kill switch"
    )
    run.add_argument(
        "--kill-switch-file",
        metavar="F",
        help="for --host-only: no orders unless this file says `released`",
    )
    status = actions.add_parser(
        "status", help="who holds the locks of this host", allow_abbrev=False
    )
    status.add_argument("market", metavar="MARKET", nargs="?", help="only this market")
    status.add_argument("--json", action="store_true", help="for programs")
    for action in (run, status):
        action.add_argument(
            "--project-root", metavar="DIR", help="folder of runtime_locks, one per host"
        )
    return parser


def _run(options: argparse.Namespace, command: list[str]) -> int:
    from canonical_guard.guard import wanted_market
    from canonical_guard.wrapper import Wrapper

    wanted = None
    try:
        wanted = wanted_market(
            options.market,
            server=options.server,
            api_key=_api_key(options.api_key_file),
            account=options.account,
            project_root=options.project_root,
            host_only=options.host_only,
            run_id=None,
            kill_switch_file=options.kill_switch_file,
        )
        _say("PROJECT_ROOT", f"Lock files are below {wanted.root}.")
    except GuardError as exc:
        if not options.observe:
            raise
        _say(exc.code, f"Observing, so starting regardless: {exc}")
    wrapper = Wrapper(
        wanted,
        command,
        _say,
        observe=options.observe,
        stop_on_kill_switch=options.stop_on_kill_switch,
    )
    return wrapper.run()


def _api_key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        with file.open("rb") as opened:
            key = opened.read(4096).decode("ascii").strip()
    except OSError as exc:
        raise InvalidConfiguration(
            f"The API key file {file} cannot be read: {exc.strerror}."
        ) from exc
    except UnicodeDecodeError:
        key = ""
    if not key:
        raise InvalidConfiguration(f"The API key file {file} holds no key.")
    return key


def _status(options: argparse.Namespace) -> int:
    from canonical_guard import symbols
    from canonical_guard.errors import LockAuthorityUnavailable
    from canonical_guard.overview import overview
    from canonical_guard.project_root import project_root

    root = project_root(options.project_root)
    market = None
    if options.market is not None:
        market = symbols.resolve(options.market).canonical_instrument
    try:
        rows = overview(root, market)
    except OSError as exc:
        raise LockAuthorityUnavailable(f"{root} cannot be looked into: {exc}.") from exc
    if options.json:
        print(json.dumps({"project_root": str(root), "locks": rows}, indent=2))
        return 0
    print(f"Lock files below {root}:")
    for row in rows:
        print(_line(row))
    if not rows:
        print("  nothing is held.")
    return 0


def _line(row: dict[str, Any]) -> str:
    from canonical_guard.hostlock import told_of

    record = row["record"]
    active = {
        "run_id": record.get("run_id"),
        "host": record.get("host"),
        "execution_instrument": record.get("execution_instrument"),
        "since": record.get("acquired_at_utc"),
    }
    place = row["market"] + (f", account {row['scope']}" if row["scope"] else "")
    return f"  {place}: {row['state']}, {told_of(active)}"


def _say(event: str, sentence: str) -> None:
    """One line for people on standard error; a closed one must not end a guard."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"canonical_guard: {event}: {sentence}", file=sys.stderr, flush=True)
