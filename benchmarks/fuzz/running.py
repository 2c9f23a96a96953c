"""Run the readers on damaged files: in processes that are killed when they hang, and resumable."""

import json
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nipype_quicksilver.spatial.files import write_json

#: What may happen to an input; the first two are right.
OUTCOMES = ("read", "refused", "exception", "not a line", "nonsense", "memory", "hang", "killed")
TIMEOUT = 60.0  # s; reading takes milliseconds, and files that would hang ITK ten seconds
STARTING = 300.0  # s, of a process that imports torch on a busy machine
_KEPT = 200  # descriptions of inputs that went wrong
_SAVED = 20  # inputs between two states


class Worker:
    """A process that reads the inputs of one reader; it is started again when it was killed."""

    def __init__(self, reader: str, seed: int, folder: Path) -> None:
        self.command = [sys.executable, "-m", "benchmarks.fuzz.worker", reader, str(seed)]
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def read(self, number: int) -> dict[str, Any]:
        """Let it read an input, and return what happened."""
        waiting = TIMEOUT
        if self._process is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._process = subprocess.Popen(
                [*self.command, str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            waiting += STARTING
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass
        if not select.select([process.stdout], [], [], waiting)[0]:
            self.close()
            return {"outcome": "hang", "message": f"no answer for {TIMEOUT:g} s"}
        line = process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = process.wait()
        self.close()
        return {"outcome": "killed", "message": f"the process ended with {code}"}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None


def fuzz(reader: str, inputs: int, seed: int, work: Path) -> dict[str, Any]:
    """Run a reader on inputs, from where an earlier run stopped; return the counts."""
    file = work / f"{reader}-{seed}.json"
    state: dict[str, Any] = {"done": 0, "counts": {}, "wrong": []}
    if file.exists():
        state = json.loads(file.read_text(encoding="utf-8"))
    counts = Counter(state["counts"])
    with tempfile.TemporaryDirectory() as temporary:
        worker = Worker(reader, seed, Path(temporary) / "a folder")
        try:
            for number in range(state["done"], inputs):
                answer = worker.read(number)
                counts[answer["outcome"]] += 1
                if answer["outcome"] not in OUTCOMES[:2] and len(state["wrong"]) < _KEPT:
                    state["wrong"].append({"input": number, **answer})
                state |= {"done": number + 1, "counts": dict(counts)}
                if number % _SAVED == _SAVED - 1 or number == inputs - 1:
                    write_json(file, state)
        finally:
            worker.close()
    return state


def fuzz_all(
    readers: list[str], inputs: int, seed: int, work: Path, processes: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run several readers at the same time; yield their counts in the order of the readers."""
    with ThreadPoolExecutor(processes) as pool:
        runs = {name: pool.submit(fuzz, name, inputs, seed, work) for name in readers}
        for name, run in runs.items():
            yield name, run.result()
