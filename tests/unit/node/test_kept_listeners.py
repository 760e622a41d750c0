"""Listeners for forks that outlive a node: pipes stand in for them, as only their copies matter."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from rescoldo.node.processes.kept_listeners import KeptListeners, Key, make_pair


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The pair as the supervisor holds it."""
    ends = make_pair()
    yield ends
    for end in ends:
        end.close()


class Node:
    """A node with its copies of the pair."""

    def __init__(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self.ends = (pair[0].dup(), pair[1].dup())
        self.kept = KeptListeners(self.ends)
        self.open: list[int] = []

    def keep(self, key: Key) -> int:
        """Keep the read end of a pipe; return the write end, which tells whether any copy is left."""
        reader, writer = os.pipe()
        self.kept.keep(key, reader)
        self.open.append(reader)
        return writer

    def regain(self) -> dict[Key, int]:
        found = self.kept.regain()
        self.open += found.values()
        return found

    def die(self) -> None:
        for descriptor in self.open:
            os.close(descriptor)
        for end in self.ends:
            end.close()


def is_held(writer: int) -> bool:
    try:
        os.write(writer, b"x")
    except BrokenPipeError:
        return False
    return True


def test_a_listener_outlives_one_node_after_another(pair: tuple[socket.socket, socket.socket]) -> None:
    first = Node(pair)
    writer = first.keep(Key(10, 1))
    first.die()
    for _ in range(3):
        assert is_held(writer)
        successor = Node(pair)
        assert list(successor.regain()) == [Key(10, 1)]
        successor.die()
    os.close(writer)


def test_copies_of_ended_instances_are_let_go_and_those_of_others_never(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    node = Node(pair)
    stays = node.keep(Key(1, 1))
    writers = []
    for number in range(2, 500):
        writers.append(node.keep(Key(number, 1)))
        os.close(node.open.pop())
        node.kept.drop(Key(number, 1))
    held = sum(map(is_held, writers))
    assert held < 40
    assert is_held(stays)
    node.die()
    successor = Node(pair)
    assert Key(1, 1) in successor.regain()
    assert len(successor.open) == held + 1
    successor.die()
    for writer in (stays, *writers):
        os.close(writer)


def test_hundreds_of_listeners_are_kept_in_few_messages(pair: tuple[socket.socket, socket.socket]) -> None:
    node = Node(pair)
    keys = [Key(number, number) for number in range(450)]
    writers = [node.keep(key) for key in keys]
    node.die()
    successor = Node(pair)
    assert sorted(successor.regain()) == keys
    successor.die()
    for writer in writers:
        os.close(writer)
