#!/usr/bin/env bash
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
# All runs of a sweep: first its datasets, then the runs as an array of jobs, then the report.
#
#   bash slurm/sweep.sh [--dry-run] SWEEP [max_tasks=64] [packed=1]     on a login node
#   sbatch slurm/sweep.sh SWEEP [max_tasks=64] [packed=1]               the same from inside a job; where sbatch is
#                                                                       refused there, that job does it all by itself
#
# Task t of the array trains the runs t, t + max_tasks, t + 2 max_tasks and so on: however many runs there are, there are
# max_tasks tasks at most. packed=K trains K models at a time in a task. The same command again submits only what is
# neither done nor on its way. --dry-run prints the exact sbatch lines. LEAD seconds before the time limit, and when a
# task is preempted, its training saves and the task goes back into the queue.
#
# Settings come from slurm/cluster.env (see slurm/cluster.env.example) or the environment. Exit code 0: submitted, or
# nothing to do; 2: bad input, nothing is submitted.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ ! -f $root/slurm/common.sh ]]; then # Slurm runs a copy of a submitted script, and knows where that lay
    root=$SLURM_SUBMIT_DIR
    if [[ ! -f $root/slurm/common.sh ]]; then
        root=$(scontrol show job -o "$SLURM_JOB_ID" | sed -n '1s|.* Command=\([^ ]*\)/slurm/.*|\1|p')
    fi
fi
. "$root/slurm/common.sh"

dry_run=false max_tasks= packed=1 stage= sweep=
for argument in "$@"; do
    case $argument in
        --dry-run) dry_run=true ;;
        max_tasks=*) max_tasks=${argument#*=} ;;
        packed=*) packed=${argument#*=} ;;
        stage=data | stage=runs | stage=report) stage=${argument#*=} ;; # how this script submits itself
        *=*) fail "${argument%%=*}: is no option of slurm/sweep.sh; runs are changed in the sweep file" ;;
        *) [[ -z $sweep ]] && sweep=$argument || fail "$argument: one sweep at a time" ;;
    esac
done
[[ -n $sweep ]] || fail "no sweep given; say: bash slurm/sweep.sh [--dry-run] SWEEP [max_tasks=64] [packed=1]"
for option in max_tasks packed; do
    [[ ${!option:-1} =~ ^[1-9][0-9]{0,4}$ ]] || fail "$option: '${!option}' is no number from 1; give e.g. $option=4"
done

# One task of the array, or one stage.
work() {
    case $stage in
        data)
            attempt "${python[@]}" -m dualenc.sweep.slurm data "$sweep" "$SLURM_ARRAY_TASK_ID" \
                max_tasks="$max_tasks" num_workers="${SLURM_CPUS_PER_TASK:-1}"
            ;;
        report) "${python[@]}" -m dualenc.report --sweep "$sweep" ;;
        *)
            attempt "${python[@]}" -m dualenc.sweep run "$sweep" "$SLURM_ARRAY_TASK_ID::$max_tasks" packed="$packed"
            ;;
    esac
}

# Everything in this one job.
work_alone() {
    local code=0
    attempt "${python[@]}" -m dualenc.sweep run "$sweep" all packed="$packed" || code=$?
    ((code == 130)) || stage=report work || true
    return "$code"
}

# The jobs of each stage; returns 3 where there is no sbatch, or where it refuses the first.
submit() {
    local name array data job previous= busy=
    local -a common runs generate report
    read -ra runs <<<"${SWEEP_OPTIONS:---ntasks=1 --cpus-per-task=2}"
    read -ra generate <<<"${GENERATE_OPTIONS:-}"
    read -ra report <<<"${REPORT_OPTIONS:---ntasks=1 --cpus-per-task=1}"
    check_lead "$(time_limit "${runs[@]}")"
    name=sweep-$(basename "${sweep%.*}")
    if ! $dry_run; then
        command -v sbatch >/dev/null || return 3
        busy=$(squeue -h -r -u "$(id -un)" -n "$name" -o '%K %Z' 2>/dev/null |
            awk -v here="$PWD" '$2 == here {print $1}' | paste -sd,)
    fi
    array=$("${python[@]}" -m dualenc.sweep.slurm plan "$sweep" max_tasks="$max_tasks" busy="[$busy]") || exit $?
    read -r array data <<<"$array"
    [[ $array != - ]] || return 0
    $dry_run || mkdir -p "$logs"
    common=(--parsable --chdir="$PWD" --requeue --open-mode=append --signal="B:USR1@$lead")
    if [[ $data != - ]]; then
        send DATA_JOB --job-name="$name-data" --output="$logs/$name-data-%a.out" --array="$data" --ntasks=1 \
            --cpus-per-task="${GENERATE_CPUS:-4}" "${generate[@]}" -- stage=data max_tasks="$max_tasks" || return 3
        previous=--dependency=afterany:$job
    fi
    send ARRAY_JOB --job-name="$name" --output="$logs/$name-%a.out" --array="$array" ${previous:+"$previous"} \
        "${runs[@]}" -- stage=runs max_tasks="$max_tasks" packed="$packed" || return 3
    send REPORT_JOB --job-name="$name-report" --output="$logs/$name-report.out" --dependency="afterany:$job" \
        "${report[@]}" -- stage=report ||
        fail "the runs are submitted, the report is not; make it by python -m dualenc.report --sweep $sweep"
    $dry_run || echo "output in $logs" >&2
}

# send PLACEHOLDER OPTIONS... -- ARGUMENTS...: sbatch for this script; sets `job`, in a dry run to the placeholder.
send() {
    local placeholder=$1 options=()
    shift
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    local command=(sbatch "${common[@]}" "${options[@]}" "$root/slurm/sweep.sh" "$sweep" "$@")
    if $dry_run; then
        quoted "${command[@]}"
        echo
        job=$placeholder
    else
        job=$("${command[@]}") || return 3
        job=${job%%;*} # of several clusters, the name follows
        echo "submitted: job $job ($(tr '[:upper:]_' '[:lower:] ' <<<"${placeholder%_JOB}"))" >&2
    fi
}

code=0
if [[ -n ${SLURM_ARRAY_TASK_ID:-} || $stage == report ]]; then
    if [[ -z $stage ]]; then # an array of the user's own making
        [[ $SLURM_ARRAY_TASK_MIN == 0 && $SLURM_ARRAY_TASK_COUNT == $((SLURM_ARRAY_TASK_MAX + 1)) || -n $max_tasks ]] ||
            fail "max_tasks: the array has not the tasks 0 to T - 1; say of how many they are, e.g. max_tasks=64"
        max_tasks=${max_tasks:-$SLURM_ARRAY_TASK_COUNT}
    fi
    check_job
    work || code=$?
    exit "$code"
fi
max_tasks=${max_tasks:-${MAX_TASKS:-64}}
if [[ -z ${SLURM_JOB_ID:-} ]]; then
    check_python
    submit || code=$?
    ((code != 3)) || command -v sbatch >/dev/null ||
        fail "sbatch is not there; run this on a login node of a Slurm cluster, or with --dry-run"
    exit $((code ? 2 : 0))
fi
check_python
(
    # Else the options of this job would become those of the jobs that it submits.
    for name in "${!SLURM_@}" "${!SRUN_@}"; do [[ $name == SLURM_CONF ]] || unset "$name"; done
    submit
) || code=$?
if ((code == 3)); then
    echo "sbatch is refused inside jobs here: this one runs the whole sweep by itself" >&2
    check_job
    code=0
    work_alone || code=$?
fi
exit "$code"
