"""How a run is executed: processes, devices, GPUs, limits, crashes, provenance."""
