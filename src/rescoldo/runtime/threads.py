"""A bounded pool of daemon threads for handlers that block.

concurrent.futures joins its threads at exit, so one hung handler would keep the process for ever; these are
daemons. Threads start when work waits and no thread is free, never before.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

Callback = Callable[[], None]
Job = Callable[[], Callback]


class Threads:
    """Runs jobs in at most `limit` threads; `submit` and `_run_posted` belong to the loop's thread.

    A job never raises. What it returns is called on the loop; before that it speaks to the loop with `post`
    alone. Whoever posts appends first and looks at the flag afterwards, and the loop clears the flag first
    and empties the queue afterwards: nothing is missed, and jobs that end together wake the loop once.
    """

    __slots__ = ("_count", "_jobs", "_limit", "_loop", "_outstanding", "_posted", "_waking")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self._loop = loop
        self._limit = limit
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._posted: deque[tuple[Callback, int]] = deque()  # and how many jobs end with it
        self._waking = False
        self._count = 0  # threads started
        self._outstanding = 0  # jobs submitted and not ended

    def submit(self, job: Job) -> None:
        """Run `job` in a thread, in order of submission."""
        self._outstanding += 1
        if self._outstanding > self._count and self._count < self._limit:
            self._count += 1
            threading.Thread(target=self._work, name=f"handler-{self._count}", daemon=True).start()
        self._jobs.put(job)

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
        while True:
            job = self._jobs.get()
            self.post(job(), 1)
            del job  # or the last call's request lives until the next
