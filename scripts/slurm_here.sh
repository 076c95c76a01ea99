#!/usr/bin/env bash
# A real Slurm with two virtual nodes of one core on this machine, to try cluster=slurm with (docs/cluster.md).
#
#   eval "$(scripts/slurm_here.sh start FOLDER)"     set it up in FOLDER and export SLURM_CONF
#   scripts/slurm_here.sh stop FOLDER
#
# Needs root and Debian's packages: apt-get install slurm-wlm munge. Nothing of a Slurm that is there is touched: the
# daemons have ports and files of their own.
set -euo pipefail
action=${1:?start or stop} folder=$(readlink -m "${2:?a folder}") conf=$(readlink -m "$2")/slurm.conf
host=$(hostname -s) ports=${SLURM_PORTS:-16900}

stop() {
    for pid in "$folder"/*.pid; do
        [ ! -s "$pid" ] || kill "$(cat "$pid")" 2> /dev/null || true
    done
}

if [ "$action" = stop ]; then
    stop
    exit 0
fi
for program in slurmctld slurmd munged; do
    command -v "$program" > /dev/null || { echo "There is no $program: apt-get install slurm-wlm munge" >&2; exit 1; }
done
stop
mkdir -p "$folder/state" /run/munge
[ -f /etc/munge/munge.key ] || mungekey
chown munge: /etc/munge/munge.key /run/munge
munge -n 2> /dev/null | unmunge > /dev/null 2>&1 || su -s /bin/bash munge -c "munged --force"
cat > "$conf" << CONF
ClusterName=here
SlurmctldHost=$host
SlurmctldPort=$ports
AuthType=auth/munge
SlurmUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# A dead element is seen soon, and a node that comes back is taken again.
ReturnToService=2
SlurmdTimeout=20
SchedulerParameters=sched_interval=2,defer_batch
InactiveLimit=0
KillWait=5
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((ports + 1))-$((ports + 2))] CPUs=1 RealMemory=4000
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$conf
slurmctld
for node in n1 n2; do slurmd -N "$node"; done
for _ in $(seq 60); do
    [ "$(sinfo --noheader --states idle --format %D 2> /dev/null)" != 2 ] || { echo "export SLURM_CONF=$conf"; exit 0; }
    sleep 0.5
done
echo "The two nodes did not come up; see $folder/*.log" >&2
exit 1
