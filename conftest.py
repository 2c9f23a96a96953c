"""Settings of every test run, made before a library that reads them is imported."""

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

# In the background of a shell or under nohup, these are ignored, also by the processes that tests
# start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ.setdefault("NO_ET", "1")  # otherwise Nipype asks a server for its newest version
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers already share the cores: threads on top of them only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    # TemplateFlow fills an empty folder when it is imported.
    os.environ["TEMPLATEFLOW_HOME"] += os.environ["PYTEST_XDIST_WORKER"]
else:
    # Nipype writes crash files into the current folder by default. Workers inherit this setting.
    folder = Path(tempfile.mkdtemp(prefix="quicksilver-nipype-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "nipype.cfg").write_text(f"[execution]\ncrashdump_dir = {folder / 'crashes'}\n")
    os.environ["NIPYPE_CONFIG_DIR"] = str(folder)
    os.environ["TEMPLATEFLOW_HOME"] = str(folder / "templateflow")
