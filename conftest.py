"""Settings of every test run, made before a library that reads them is imported."""

import os

os.environ.setdefault("NO_ET", "1")  # Nipype asks a server for its newest version otherwise
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers already share the cores: threads on top of them only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
