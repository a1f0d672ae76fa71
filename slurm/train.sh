#!/usr/bin/env bash
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
# One training over all tasks of a job: python -m dualenc.fit, started by srun where there are several.
#
#   bash slurm/train.sh [--dry-run] CONFIG [key=value ...]                on a login node, with TRAIN_OPTIONS
#   sbatch --nodes=2 --ntasks-per-node=4 slurm/train.sh CONFIG [key=value ...]
#
# trainer.devices and trainer.nodes are the tasks of the job: leave them out. LEAD seconds before the time limit, and when
# the job is preempted, the training saves and goes back into the queue; the same command continues it, too.
#
# Settings come from slurm/cluster.env (see slurm/cluster.env.example) or the environment. Exit code 0: submitted, or done;
# 2: bad input.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ ! -f $root/slurm/common.sh ]]; then # Slurm runs a copy of a submitted script, and knows where that lay
    root=$SLURM_SUBMIT_DIR
    if [[ ! -f $root/slurm/common.sh ]]; then
        root=$(scontrol show job -o "$SLURM_JOB_ID" | sed -n '1s|.* Command=\([^ ]*\)/slurm/.*|\1|p')
    fi
fi
. "$root/slurm/common.sh"

dry_run=false
if [[ ${1:-} == --dry-run ]]; then
    dry_run=true
    shift
fi
[[ -n ${1:-} && $1 != *=* ]] || fail "no config given; say: slurm/train.sh [--dry-run] CONFIG [key=value ...]"

if [[ -n ${SLURM_JOB_ID:-} ]] && ! $dry_run; then
    check_job
    command=("${python[@]}" -m dualenc.fit "$@")
    ((${#container[@]} == 0)) || command=(srun "${command[@]}") # inside there is no srun to hand over to
    code=0
    attempt "${command[@]}" || code=$?
    exit "$code"
fi

read -ra options <<<"${TRAIN_OPTIONS:-}"
command=(sbatch --parsable --chdir="$PWD" --requeue --open-mode=append --signal="B:USR1@$lead" --job-name=train
    --output="$logs/train-%j.out" "${options[@]}" "$root/slurm/train.sh" "$@")
check_python
check_lead "$(time_limit "${options[@]}")"
if $dry_run; then
    quoted "${command[@]}"
    echo
    exit 0
fi
command -v sbatch >/dev/null ||
    fail "sbatch is not there; run this on a login node of a Slurm cluster, or with --dry-run"
mkdir -p "$logs"
job=$("${command[@]}") || exit 2
echo "submitted: job ${job%%;*}; output in $logs/train-${job%%;*}.out" >&2
