#!/usr/bin/env bash
# A SLURM cluster for tests, which consists of this machine, on its loopback interface:
#
#     sudo tests/slurm/cluster.sh start FOLDER    # installs SLURM and munge (Debian), starts them
#     export SLURM_CONF=FOLDER/slurm.conf
#     sudo tests/slurm/cluster.sh stop FOLDER
#
# Nothing outside FOLDER is configured, no service is registered, and only the daemons of this cluster
# are stopped. Exit code 75: this machine cannot run such a cluster; the reason is printed.
set -euo pipefail

readonly UNABLE=75
readonly CONTROLLER_PORT=${SLURM_TEST_PORT:-16817}

unable() {
    printf 'no SLURM cluster here: %s\n' "$1"
    exit "$UNABLE"
}

install_packages() {
    command -v slurmctld slurmd munged sbatch >/dev/null && return
    command -v apt-get >/dev/null || unable 'SLURM is not installed, and there is no apt-get'
    local log
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    {
        timeout 60 apt-get update &&
            timeout 120 apt-get install -y --no-install-recommends slurm-wlm munge
    } >"$log" 2>&1 || unable "slurm-wlm and munge cannot be installed: $(tail -n 1 "$log")"
    rm -f "$log"
}

configure() {
    local host cpus memory
    host=$(hostname -s)
    cpus=$(nproc)
    memory=$(awk '/^MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
    mkdir -p "$folder"/{state,spool,log,run}
    # The node has a simulated GPU, the file /dev/null, which is assigned to one job at a time.
    printf 'NodeName=%s Name=gpu File=/dev/null\n' "$host" >"$folder/gres.conf"
    cat >"$folder/slurm.conf" <<CONF
ClusterName=quicksilver
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$CONTROLLER_PORT
SlurmdPort=$((CONTROLLER_PORT + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
# No cgroups, which containers often lack.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=2
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=gpu Nodes=$host MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
}

start_munge() {
    dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
    chmod 600 "$folder/munge.key"
    munged --force --key-file="$folder/munge.key" --socket="$folder/run/munge.socket" \
        --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged.log" \
        --seed-file="$folder/run/munged.seed" || unable 'munged does not start'
}

start_slurm() {
    export SLURM_CONF=$folder/slurm.conf
    slurmctld -c -i || unable 'slurmctld does not start'
    slurmd -N "$(hostname -s)" || unable 'slurmd does not start'
    local tries
    for tries in $(seq 40); do
        [ "$(sinfo --noheader --partition=cpu --format=%T 2>/dev/null)" = idle ] && break
        sleep 0.5
    done
    # In some containers the node is idle, but cannot start a job.
    timeout 60 sbatch --wait --chdir="$folder" --output=/dev/null --wrap=true >/dev/null 2>&1 && return
    tail -n 5 "$folder"/log/*.log
    unable 'the node does not run a job'
}

start() {
    [ "$(id -u)" -eq 0 ] || unable 'it needs root'
    install_packages
    configure
    trap stop EXIT
    start_munge
    start_slurm
    trap - EXIT
}

stop() {
    local name pid
    for name in slurmd slurmctld munged; do
        [ -f "$folder/run/$name.pid" ] || continue
        pid=$(<"$folder/run/$name.pid")
        kill "$pid" 2>/dev/null || continue
        timeout 10 tail --pid="$pid" -f /dev/null || kill -9 "$pid" 2>/dev/null || true
    done
}

[ $# -eq 2 ] && [[ $1 =~ ^(start|stop)$ ]] || {
    printf 'usage: %s start|stop FOLDER\n' "$0" >&2
    exit 2
}
mkdir -p "$2"
folder=$(cd "$2" && pwd)
"$1"
