"""Batches that are ready before they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], n: int) -> Generator[T, None, None]:
    """Yield items that a thread makes, up to `n` of them ahead; 0: each when it is asked for.

    The thread makes them one after the other, in their order. It ends with the items, and when the
    iterator is closed or fails; an error of theirs is raised here.
    """
    if not n:
        yield from items
        return
    made: SimpleQueue[tuple[bool, T | BaseException | None]] = SimpleQueue()
    places, closed = threading.Semaphore(n), threading.Event()

    def make() -> None:
        try:
            while True:
                places.acquire()
                if closed.is_set():
                    return
                made.put((True, next(items)))
        except StopIteration:
            made.put((False, None))
        except BaseException as error:
            made.put((False, error))

    thread = threading.Thread(target=make, name="skxc-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            there, item = made.get()
            if not there:
                if item is not None:
                    raise item  # type: ignore[misc]
                return
            yield item  # type: ignore[misc]
            places.release()
    finally:
        closed.set()
        places.release()
        thread.join()
