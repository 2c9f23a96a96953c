#!/usr/bin/env bash
# Starts a SLURM cluster on this machine, runs the tests of a cohort on it, and stops it:
#
#     sudo tests/slurm/run.sh [PYTHON]
#
# If the machine cannot run such a cluster, it prints the reason and exits with 0.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${1:-python}

folder=$(mktemp -d)
trap '"$here/cluster.sh" stop "$folder"; rm -rf "$folder" || true' EXIT
code=0
"$here/cluster.sh" start "$folder" || code=$?
if [ "$code" -ne 0 ]; then
    printf 'skipped: the tests on SLURM (exit code %s)\n' "$code"
    exit 0
fi
cd "$here/../.."
run_tests() {
    SLURM_CONF=$folder/slurm.conf QUICKSILVER_SLURM=1 \
        "$python" -m pytest -q "$here/test_slurm.py"
}
code=0
# The tests wait for daemons on a machine that may be busy: after a failure they run once more.
run_tests || { printf 'failed; running again\n' && run_tests; } || code=$?
if [ "$code" -ne 0 ]; then
    tail -n 20 "$folder"/log/slurmctld.log
fi
exit "$code"
