#!/usr/bin/env bash
# Register a cohort on a SLURM cluster: copy this and slurm.json, put your partitions and account into
# slurm.json, and submit
#
#     sbatch --time=2-00:00:00 cohort_slurm.sh bids derivatives/quicksilver --n-gpus 1
#
# This job only submits others, one per step of each image, and waits for them. What it was not able
# to do, for instance since its time ran out, the same line does when it is submitted again. Leave
# --n-gpus out to register on CPUs.
#
#SBATCH --job-name=quicksilver
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 BIDS_DIR OUT [OPTION ...]" >&2
    exit 2
fi
# SLURM runs a copy of a submitted script: slurm.json is looked for where it was submitted.
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
