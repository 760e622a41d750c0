"""A bounded pool of daemon threads for handlers that block.

concurrent.futures joins its threads at exit, so one hung handler would keep the process for ever; these are
daemons. But for the first (`prepare`), threads start when work waits and no thread is free.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

Callback = Callable[[], None]
Job = Callable[[], Callback]


class Threads:
    """Runs jobs in at most `limit` threads; `submit`, `withdraw` and `_run_posted` belong to the loop's thread.

    A job never raises. What it returns is called on the loop; before that it speaks to the loop with `post`
    alone. A poster appends first and looks at the flag afterwards, and the loop clears the flag first
    and empties the queue afterwards: nothing is missed, and jobs that end together wake the loop once.

    A queue cannot give up what is in its middle, so the jobs wait in a dictionary and the queue holds a token for
    each: the thread that gets a token takes the oldest job, and nothing if that was withdrawn meanwhile.
    """

    __slots__ = ("_jobs", "_limit", "_loop", "_outstanding", "_posted", "_threads", "_tokens", "_waking")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self._loop = loop
        self._limit = limit
        self._jobs: OrderedDict[Job, None] = OrderedDict()
        self._tokens: SimpleQueue[bool] = SimpleQueue()  # False ends a thread
        self._posted: deque[tuple[Callback, int]] = deque()  # and how many jobs end with it
        self._waking = False
        self._threads: list[threading.Thread] = []
        self._outstanding = 0  # jobs submitted and not ended

    def prepare(self) -> None:
        """Start the first thread, so that the first call need not wait for it."""
        if not self._threads:
            self._start_thread()

    def submit(self, job: Job) -> None:
        """Run `job` in a thread, in order of submission."""
        self._outstanding += 1
        if self._outstanding > len(self._threads) and len(self._threads) < self._limit:
            self._start_thread()
        self._jobs[job] = None
        self._tokens.put(True)

    def withdraw(self, job: Job) -> bool:
        """Run `job` no more, unless a thread has taken it; return whether it will never begin."""
        try:
            del self._jobs[job]
        except KeyError:
            return False
        self._outstanding -= 1
        with suppress(Empty):  # a thread has its token
            self._tokens.get_nowait()
        return True

    def end(self) -> None:
        """End the threads, each after what it does now; return when they have ended."""
        for _ in self._threads:
            self._tokens.put(False)
        for thread in self._threads:
            thread.join()

    def _start_thread(self) -> None:
        name = f"handler-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def post(self, callback: Callback, ended: int = 0) -> None:
        """Have the loop call `callback`; for use in a job."""
        self._posted.append((callback, ended))
        if not self._waking:
            self._waking = True
            self._loop.call_soon_threadsafe(self._run_posted)

    def _run_posted(self) -> None:
        self._waking = False
        while self._posted:
            callback, ended = self._posted.popleft()
            self._outstanding -= ended
            callback()

    def _work(self) -> None:
        while self._tokens.get():
            try:
                job, _ = self._jobs.popitem(last=False)
            except KeyError:  # withdrawn
                continue
            self.post(job(), 1)
            del job  # or the last call's request lives until the next
