"""CPU and memory of a process and of the processes below it."""

import subprocess
import sys
import time

import pytest

from skxc.benchmark._process import cpu_seconds, wait

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

BUSY = "import time\nwhile time.process_time() < 0.4: pass\n"


def test_own_work_counts():
    before, begun = cpu_seconds(), time.process_time()
    sum(i * i for i in range(300_000))
    assert cpu_seconds() - before == pytest.approx(time.process_time() - begun, abs=0.02)


def test_ended_children_count():
    before = cpu_seconds()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert cpu_seconds() - before >= 0.35


def test_living_children_and_their_children_count():
    grandchild = f"subprocess.run([sys.executable, '-c', {BUSY!r}])"
    child = f"import subprocess, sys\n{grandchild}\nsys.stdin.read()"
    before = cpu_seconds()
    process = subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while cpu_seconds() - before < 0.35 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None
    assert cpu_seconds() - before >= 0.35
    process.communicate()


def test_peak_memory_is_that_of_the_process_alone():
    small = _peak("import time; time.sleep(0.3)")
    ballast = bytes(200 << 20)  # ours, and so not part of theirs
    large = _peak("import time; block = b'x' * (100 << 20); del block; time.sleep(0.3)")
    assert len(ballast) == 200 << 20
    assert small < 80
    assert 95 < large - small < 130


def test_peak_memory_of_children_is_added():
    child = "import time; block = b'x' * (60 << 20); time.sleep(0.5)"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    assert _peak(parent) > _peak("import time; time.sleep(0.3)") + 60


def _peak(code):
    return wait(subprocess.Popen([sys.executable, "-c", code]))
