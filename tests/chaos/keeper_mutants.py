"""A keeper with one of its duties left out; applied in the keeper's own process.

Only the standard library is there: a keeper is started without site-packages.
"""

from __future__ import annotations

from canonical_guard import tree
from canonical_guard.keeper import Keeper
from canonical_guard.warden import Warden


def waits_for_the_guard() -> None:
    """No deadline of its own: it ends the robot when the guard says so, or is dead."""
    Keeper._is_late = property(lambda self: False)  # type: ignore[assignment]
    Keeper._kill_time = lambda self, now: float("inf")  # type: ignore[method-assign]


def leaves_grandchildren() -> None:
    """The robot's own process is all that it waits for."""

    def is_gone(self: tree.RobotTree) -> bool:
        original(self)
        return self.returncode is not None

    original = tree.RobotTree.is_gone
    tree.RobotTree.is_gone = is_gone  # type: ignore[method-assign]
    tree.RobotTree._send_to_all = tree.RobotTree.send  # type: ignore[method-assign]


def asks_only() -> None:
    """It never kills."""
    tree.RobotTree.kill = lambda self: None  # type: ignore[method-assign]


def leaves_the_robot_untied() -> None:
    """Its own death ends nothing."""
    original = tree.start_robot

    def start_robot(command: list[str], **options: object) -> tree.RobotTree:
        return original(command, **{**options, "dies_with_keeper": False})  # type: ignore[arg-type]

    tree.start_robot = start_robot  # type: ignore[assignment]


def leaves_the_group_unwatched() -> None:
    """Its own death ends the robot's first process alone."""
    Warden.start = classmethod(lambda cls, group, held: None)  # type: ignore[assignment]


MUTANTS = {
    mutant.__name__: mutant
    for mutant in (
        waits_for_the_guard,
        leaves_grandchildren,
        asks_only,
        leaves_the_robot_untied,
        leaves_the_group_unwatched,
    )
}


def apply(name: str) -> None:
    if name != "-":
        MUTANTS[name]()
