"""A bounded pool of daemon threads for handlers that block.

concurrent.futures joins its threads at exit, so one hung handler would keep the process for ever; daemon threads do
not. A thread starts when a job waits and no thread is free; `prepare` starts the first one earlier.
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

    A job never raises. The loop calls the callback that the job returns; before that, the job speaks to the loop only
    through `post`. `post` appends first and reads the flag `_waking` afterwards; the loop clears the flag first and
    empties the queue afterwards. So no callback is missed, and jobs that end together wake the loop once.

    A queue cannot give up an item in its middle. So the jobs wait in a dictionary, and the queue holds a token for
    each: the thread that gets a token takes the oldest job, or none if that job was withdrawn meanwhile.
    """

    __slots__ = ("_jobs", "_limit", "_loop", "_outstanding", "_posted", "_threads", "_tokens", "_waking")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self._loop = loop
        self._limit = limit
        self._jobs: OrderedDict[Job, None] = OrderedDict()
        self._tokens: SimpleQueue[bool] = SimpleQueue()  # False ends a thread
        self._posted: deque[tuple[Callback, int]] = deque()  # each with the number of jobs that end with it
        self._waking = False
        self._threads: list[threading.Thread] = []
        self._outstanding = 0  # jobs submitted and not yet ended

    def prepare(self) -> None:
        """Start the first thread, so that the first call does not wait for it."""
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
        """Cancel `job` unless a thread has taken it; return whether it will never begin."""
        try:
            del self._jobs[job]
        except KeyError:
            return False
        self._outstanding -= 1
        with suppress(Empty):  # a thread may hold its token already
            self._tokens.get_nowait()
        return True

    def end(self) -> None:
        """End each thread after its current job; return when all have ended."""
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
        """Have the loop call `callback`. For use within a job."""
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
            except KeyError:  # the job was withdrawn
                continue
            self.post(job(), 1)
            del job  # else the last call's request lives until the next call
