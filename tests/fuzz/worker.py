"""A process that tries inputs one after the other, and may die of any of them.

It says ``"ready"``, reads lines ``AREA SEED NUMBER`` and answers lines of JSON: ``"start"`` before
a try, its outcome after it, and ``"end"`` after the last.
"""

import json
import linecache
import logging
import os
import resource
import traceback
import warnings

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import skxc
from tests.fuzz import areas

LARGEST = 6 * 2**30
MEANT = (
    "/skxc/",
    "/sklearn/utils/",
    "/sklearn/base.py",
    "/feature_extraction/",
    "/tests/fuzz/areas.py",
)


def outcome(call):
    """Return the kind of outcome, and what to say of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)
            call()
    except areas.Nonsense as error:
        return "nonsense", str(error)
    except (ValueError, TypeError, OSError) as error:
        if is_meant(error):
            return "good error", str(error)
        return "foreign", tail(error)
    except BaseException as error:
        return "foreign", tail(error)
    return "answer", ""


def is_meant(error):
    """Return whether somebody wrote a `raise` with this sentence, or the system named a file."""
    if isinstance(error, OSError) and error.filename is not None:
        return True
    frame = traceback.extract_tb(error.__traceback__)[-1]
    line = linecache.getline(frame.filename, frame.lineno).strip()
    is_ours = "/skxc/" in frame.filename
    sentence = str(error).strip()
    return (
        any(place in frame.filename for place in MEANT)
        and (line.startswith("raise") or not is_ours)
        and len(sentence) > 10
        and not (is_ours and "\n" in sentence)
    )


def tail(error):
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{f.filename.split('/')[-1]}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__}: {str(error)[:300]} [{places}]"


def say(answer, value):
    answer.write(json.dumps(value) + "\n")
    answer.flush()


def run(area, seed, n, answer):
    """Try n inputs of an area."""

    @hypothesis.seed(seed)
    @settings(
        max_examples=n,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def trial(data):
        described, call = area(data.draw)
        say(answer, "start")
        kind, said = outcome(call)
        shown = "" if kind in ("answer", "good error") else repr(described)[:600]
        say(answer, [kind, said[:600], shown])

    trial()


def main():
    questions, answer = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # a command that reads or writes them meets nothing
        os.dup2(null, stream)
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST, LARGEST))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.getLogger("skxc").setLevel(logging.CRITICAL)
    skxc.warm_up()  # what compiles must not count as a hang
    say(answer, "ready")
    known = {area.__name__: area for area in areas.AREAS}
    for line in questions:
        name, seed, n = line.split()
        run(known[name], int(seed), int(n), answer)
        say(answer, "end")


if __name__ == "__main__":
    main()
