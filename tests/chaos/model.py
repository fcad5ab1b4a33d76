"""A small model of the lease protocol, explored to the end.

Two clients and one server in ticks of time. A message is delayed for as long as it likes or never
comes, and so does its reply; guards do their part or, paused or dead, do not; robots end, machines
are suspended or crash and come back; operators revoke; a client's clock may run slow within a
bound. What must never happen: two robots that both act, each believing that it holds the market.

A guard's step is never urgent, so a pause of a guard needs no state of its own. Only the keeper is
urgent: where it is due, no time passes before it acted.

What is left out: the number behind a token (here a token is the current one or it is not), and more
than one forgotten message of a client at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Rules:
    """Durations in ticks. The flags are the protocol; each one off is a known way to get it wrong.

    A slow clock misses one tick at the most in any `miss_every` ticks; 0 is a perfect clock.
    """

    ttl: int = 3
    kill_after: int = 2
    lock_delay: int = 3
    request_timeout: int = 1
    miss_every: int = 3
    counts_from_sending: bool = True
    keeper_is_in_time: bool = True
    clock_runs_in_suspend: bool = True


class Message(NamedTuple):
    """`kind` is acquire, renew or release; `place` is to (the server), yes or no (its reply)."""

    kind: str
    place: str
    current: bool
    age: int


class Client(NamedTuple):
    """`age`: the robot's time, by its own clock, since its last successful renewal was sent.

    `rested`: ticks that this clock still has to count before it may miss one.
    """

    robot: bool = False
    suspended: bool = False
    current: bool = False
    age: int = 0
    rested: int = 0
    asked: Message | None = None
    forgotten: Message | None = None


class World(NamedTuple):
    """`left`: ticks of the lease while it is held, of the lock delay while it is not."""

    held: bool = False
    left: int = 0
    clients: tuple[Client, Client] = (Client(), Client())


def acts(client: Client, rules: Rules) -> bool:
    """Would send an order now: its robot runs, and `check()` reads a clock that still allows it."""
    in_time = client.age < rules.kill_after or not rules.keeper_is_in_time
    return client.robot and not client.suspended and in_time


def explore(rules: Rules, limit: int = 1_000_000) -> tuple[int, list[World] | None]:
    """Visit every reachable state: how many there are, and the way to an overlap or None."""
    start = World()
    came_from: dict[World, World | None] = {start: None}
    frontier = [start]
    while frontier:
        following = []
        for world in frontier:
            for reached in steps(world, rules):
                new = _canonical(reached)
                if new in came_from:
                    continue
                came_from[new] = world
                if all(acts(client, rules) for client in new.clients):
                    return len(came_from), _way_to(new, came_from)
                following.append(new)
        frontier = following
        if len(came_from) > limit:
            raise RuntimeError(f"more than {limit} states")
    return len(came_from), None


def _way_to(world: World, came_from: dict[World, World | None]) -> list[World]:
    way: list[World] = []
    step: World | None = world
    while step is not None:
        way.append(step)
        step = came_from[step]
    return way[::-1]


def _canonical(world: World) -> World:
    """One state for all that behave alike: clients have no order, no-ops are forgotten."""
    first, second = (_plain(client) for client in world.clients)
    if hash(first) > hash(second):
        first, second = second, first
    return World(world.held, world.left, (first, second))


def _plain(client: Client) -> Client:
    asked, forgotten = client.asked, client.forgotten
    if forgotten is not None and forgotten.kind != "acquire" and not forgotten.current:
        forgotten = None
    if client.robot:
        return client._replace(forgotten=forgotten)
    rested = client.rested if asked is not None else 0
    return Client(rested=rested, asked=asked, forgotten=forgotten)


def steps(world: World, rules: Rules) -> Iterator[World]:
    """Every state that one step of time, of a client, of the network or an operator leads to."""
    yield from _tick(world, rules)
    if world.held:
        yield _ended(world, rules)  # the operator revokes
    for index in (0, 1):
        for changed in _client_steps(world.clients[index], rules):
            yield _with(world, index, changed)
        yield from _network_steps(world, index, rules)


def _with(world: World, index: int, client: Client) -> World:
    other = world.clients[1 - index]
    return world._replace(clients=(client, other) if index == 0 else (other, client))


def _tick(world: World, rules: Rules) -> Iterator[World]:
    if any(_is_due(client, rules) for client in world.clients):
        return
    left = max(0, world.left - 1)
    for first in _aged(world.clients[0], rules):
        for second in _aged(world.clients[1], rules):
            yield World(world.held, left, (first, second))


def _is_due(client: Client, rules: Rules) -> bool:
    overdue = client.robot and not client.suspended and client.age >= rules.kill_after
    return overdue and rules.keeper_is_in_time


def _aged(client: Client, rules: Rules) -> Iterator[Client]:
    """A tick on the client's own clock, which may miss one now and then."""
    if client.suspended and not rules.clock_runs_in_suspend:
        yield client
        return
    asked = client.asked and client.asked._replace(
        age=min(client.asked.age + 1, max(rules.kill_after, rules.request_timeout + 1))
    )
    age = min(client.age + 1, rules.kill_after) if client.robot else 0
    yield client._replace(age=age, asked=asked, rested=max(0, client.rested - 1))
    if rules.miss_every and client.rested == 0 and (client.robot or client.asked):
        yield client._replace(rested=rules.miss_every - 1)


def _client_steps(client: Client, rules: Rules) -> Iterator[Client]:
    # Guard, keeper and robot end at once; another process may start there.
    yield Client(forgotten=_left_over(client))
    if client.suspended:
        yield client._replace(suspended=False)
        return
    if client.robot:
        yield client._replace(suspended=True)
        if _is_due(client, rules):
            yield Client(forgotten=_left_over(client))
            return
        # The robot ends by itself, or because its guard died; the keeper releases.
        yield Client(forgotten=Message("release", "to", client.current, 0))
    asked = client.asked
    if asked is None:
        kind = "renew" if client.robot else "acquire"
        yield client._replace(asked=Message(kind, "to", client.robot and client.current, 0))
        return
    if asked.age >= rules.request_timeout:
        yield client._replace(asked=None, forgotten=_left_over(client))
    if asked.place != "to":
        yield _heard(client._replace(asked=None), asked, rules)


def _heard(client: Client, reply: Message, rules: Rules) -> Client:
    """The guard reads a reply; an acquire that took too long is not held."""
    if reply.place == "no":
        return Client(forgotten=client.forgotten)
    if reply.kind == "acquire" and reply.age > rules.request_timeout:
        return client
    age = reply.age if rules.counts_from_sending else 0
    return client._replace(robot=True, current=reply.current, age=age)


def _left_over(client: Client) -> Message | None:
    """A request that its sender no longer waits for may still arrive, however late."""
    if client.asked is not None and client.asked.place == "to":
        return client.asked._replace(age=0)
    return client.forgotten


def _network_steps(world: World, index: int, rules: Rules) -> Iterator[World]:
    client = world.clients[index]
    if client.forgotten is not None:
        after, _ = _served(world, client.forgotten, rules)
        yield _with(after, index, after.clients[index]._replace(forgotten=None))
    if client.asked is not None and client.asked.place == "to":
        after, reply = _served(world, client.asked, rules)
        yield _with(after, index, after.clients[index]._replace(asked=reply))


def _served(world: World, message: Message, rules: Rules) -> tuple[World, Message | None]:
    """The server decides, by its own clock alone."""
    yes, no = message._replace(place="yes"), message._replace(place="no")
    if message.kind == "release":
        done = world.held and message.current
        return (_all_old(world._replace(held=False, left=0)) if done else world), yes
    if message.kind == "renew":
        if world.held and world.left > 0 and message.current:
            return world._replace(left=rules.ttl), yes
        return world, no
    if world.held and world.left == 0:
        return _ended(world, rules), None  # refused: as if it had not asked
    if world.held or world.left > 0:
        return world, None
    fresh = _all_old(world._replace(held=True, left=rules.ttl))
    return fresh, yes._replace(current=True)


def _ended(world: World, rules: Rules) -> World:
    """Expired or revoked: the token is old at once, and nobody is granted before the delay."""
    return _all_old(world._replace(held=False, left=rules.lock_delay))


def _all_old(world: World) -> World:
    return world._replace(clients=(_old(world.clients[0]), _old(world.clients[1])))


def _old(client: Client) -> Client:
    asked, forgotten = client.asked, client.forgotten
    return client._replace(
        current=False,
        asked=asked and asked._replace(current=False),
        forgotten=forgotten and forgotten._replace(current=False),
    )
