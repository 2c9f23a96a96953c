#!/usr/bin/env bash
# Runs the tests of a cohort on SLURM, on a cluster of this one machine that it starts and stops:
#
#     sudo tests/slurm/run.sh [PYTHON]
#
# Where the machine cannot have such a cluster, it says why and ends with 0.
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
# They wait for daemons of a machine that may be busy: one failure is looked at again.
run_tests || { printf 'failed once; again\n' && run_tests; } || code=$?
if [ "$code" -ne 0 ]; then
    tail -n 20 "$folder"/log/slurmctld.log
fi
exit "$code"
