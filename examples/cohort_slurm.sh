#!/usr/bin/env bash
# Register a cohort on a SLURM cluster. Copy this file and slurm.json, write your partitions and account
# into slurm.json, and submit:
#
#     sbatch --time=2-00:00:00 cohort_slurm.sh bids derivatives/quicksilver --n-gpus 1
#
# This job only submits other jobs, one for each step of each image, and waits for them. If it ends
# too early, for instance because its time runs out, submit the same line again to do what is missing.
# Leave --n-gpus out to register on CPUs.
#
#SBATCH --job-name=quicksilver
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 BIDS_DIR OUT [OPTION ...]" >&2
    exit 2
fi
# SLURM runs a copy of a submitted script: slurm.json is read from the folder of the submission.
here=${SLURM_SUBMIT_DIR:-$(cd "$(dirname "$0")" && pwd)}
arguments=${QUICKSILVER_SLURM_ARGS:-$here/slurm.json}

bids=$1 out=$2
shift 2
code=0
quicksilver cohort "$bids" "$out" participant --plugin SLURM --plugin-args "$arguments" "$@" ||
    code=$?
[ "$code" -eq 2 ] && exit 2 # wrong usage; 1 means that some images failed
quicksilver cohort "$bids" "$out" group
exit "$code"
