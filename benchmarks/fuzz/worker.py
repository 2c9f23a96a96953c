"""A process that reads damaged files, one after the other, with limited memory.

It gets numbers of inputs on its standard input, and answers with a line of JSON for each.
"""

import json
import os
import resource
import sys
import traceback
import warnings
from pathlib import Path
from random import Random

from benchmarks.fuzz.judging import Nonsense
from benchmarks.fuzz.readers import READERS, Reader
from nipype_quicksilver.errors import QuicksilverError

MEMORY = 1 << 30  # bytes that reading one small file may take


def main() -> None:
    """Read the inputs of one reader."""
    name, seed, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries write there, too
    os.dup2(1, 2)
    os.chdir(folder)
    reader = READERS[name]
    mutations = reader.files(folder)
    originals = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    warnings.simplefilter("ignore")
    for file in mutations:  # this also imports all modules
        reader.read(file)
    _limit_memory()
    for line in sys.stdin:
        random = Random(f"{name} {seed} {int(line)}")
        file = random.choice(list(mutations))
        file.write_bytes(mutations[file](originals[file], random))
        if reader.repair is not None and random.random() < 0.7:
            reader.repair(folder)
        answer = read(reader, file)
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            if path not in originals:
                path.unlink()
        for path, content in originals.items():
            path.write_bytes(content)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _limit_memory() -> None:
    status = Path("/proc/self/status").read_text()
    used = int(status.split("VmData:")[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))


def read(reader: Reader, file: Path) -> dict[str, str]:
    """Read a damaged file, and return what happened."""
    try:
        reader.read(file)
        return {"outcome": "read"}
    except Nonsense as error:
        return {"outcome": "nonsense", "message": str(error)}
    except QuicksilverError as error:
        text = str(error)
        if "\n" in text or len(text) > 4000:
            return {"outcome": "not a line", "message": text[:400]}
        return {"outcome": "refused", "message": text[:400]}
    except MemoryError:
        return {"outcome": "memory", "message": traceback.format_exc()[-600:]}
    except BaseException as error:
        where = traceback.format_exc()[-900:]
        return {"outcome": "exception", "message": f"{type(error).__name__}: {where}"}


if __name__ == "__main__":
    main()
