"""A filter that asks for forks, with real processes."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from rescoldo.isolation import forks, seccomp
from rescoldo.isolation.forks import ForkListener
from rescoldo.isolation.syscalls import no_new_privileges

pytestmark = pytest.mark.skipif(not forks.available(), reason="seccomp cannot ask for forks here")
PATIENCE = 20_000  # milliseconds


@contextmanager
def child(work: Callable[[], int]) -> Iterator[tuple[int, ForkListener]]:
    """A process that does `work` under the filter and exits with what that returns; yield its pid and its listener."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            no_new_privileges()
            descriptor = seccomp.install_asking(shared_uid=False)
            socket.send_fds(theirs, [b"x"], [descriptor])
            os.close(descriptor)
            code = work()
        finally:
            os._exit(code)
    theirs.close()
    with ours:
        (descriptor,) = socket.recv_fds(ours, 1, 1)[1]
    listener = ForkListener(descriptor)
    try:
        yield pid, listener
    finally:
        listener.close()


def event(listener: ForkListener) -> int:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    ((_, found),) = poll.poll(PATIENCE)
    return found


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork_once() -> int:
    try:
        grandchild = os.fork()
    except OSError as error:
        return error.errno or 98
    if grandchild == 0:
        os._exit(7)
    return exit_code(grandchild)


def test_a_fork_waits_for_the_answer_and_then_succeeds() -> None:
    with child(fork_once) as (pid, listener):
        assert event(listener) == select.POLLIN
        question = listener.receive()
        assert question is not None and (question.pid, question.leaves_session) == (pid, False)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        assert listener.allow(question)
        assert not listener.allow(question)
        assert exit_code(pid) == 7
        assert event(listener) == select.POLLHUP


def test_a_new_session_asks_too() -> None:
    def leave() -> int:
        os.setsid()
        return 0

    with child(leave) as (pid, listener):
        event(listener)
        question = listener.receive()
        assert question is not None and question.leaves_session
        assert listener.allow(question)
        assert exit_code(pid) == 0


def test_a_process_that_is_killed_while_it_asks_leaves_no_question() -> None:
    with child(fork_once) as (pid, listener):
        event(listener)
        question = listener.receive()
        assert question is not None and listener.waits(question)
        os.kill(pid, signal.SIGKILL)
        assert exit_code(pid) == -signal.SIGKILL
        assert not listener.waits(question)
        assert not listener.allow(question)


def test_a_question_that_a_dead_node_left_open_is_asked_anew_after_a_stop() -> None:
    with child(fork_once) as (pid, listener):
        event(listener)
        lost = listener.receive()
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)
        event(listener)
        question = listener.receive()
        assert lost is not None and question is not None and question.id != lost.id
        assert listener.allow(question)
        assert exit_code(pid) == 7
