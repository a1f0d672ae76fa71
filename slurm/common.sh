# What sweep.sh and train.sh share. They set `root`, the repository, and source this.
# shellcheck shell=bash

fail() { echo "error: $*" >&2; exit 2; }
quoted() { printf '%q ' "$@"; }

if [[ -f $root/slurm/cluster.env ]]; then
    set -a
    # shellcheck source=/dev/null
    . "$root/slurm/cluster.env"
    set +a
fi
logs=${LOGS:-$root/slurm/logs}
lead=${LEAD:-120}
max_requeues=${MAX_REQUEUES:-50}
[[ $lead =~ ^[1-9][0-9]*$ ]] || fail "LEAD: '$lead' is no number of seconds; give e.g. LEAD=120"
[[ $max_requeues =~ ^[0-9]+$ ]] || fail "MAX_REQUEUES: '$max_requeues' is no number; give e.g. MAX_REQUEUES=50"
read -ra container <<<"${CONTAINER:-}"
python=("${container[@]}" "${PYTHON:-$root/.venv/bin/python}")

# Libraries keep caches in the home folder, which many sites mount read-only on compute nodes or give a small quota.
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$root/slurm/cache} XDG_CONFIG_HOME=${XDG_CONFIG_HOME:-$root/slurm/cache}
export MPLCONFIGDIR=${MPLCONFIGDIR:-$root/slurm/cache/matplotlib}

# Refuses a python that would train with another copy of dualenc, or with none.
check_python() {
    local found where='
import importlib.util, os
dualenc, torch = map(importlib.util.find_spec, ("dualenc", "torch"))
print(os.path.dirname(os.path.dirname(os.path.realpath(dualenc.origin))) if dualenc and torch else "")'
    found=$("${python[@]}" -P -c "$where" 2>/dev/null) || found=
    [[ -n $found ]] || fail "PYTHON: ${python[*]} cannot import dualenc and torch; run make setup, or set PYTHON in" \
        "slurm/cluster.env to the python of an environment where both are installed"
    [[ $found -ef $root ]] || fail "PYTHON: ${python[*]} has dualenc from $found installed, not from $root; set PYTHON" \
        "in slurm/cluster.env to the python of this checkout's environment"
}

# Seconds of a time as sbatch and scontrol write it; nothing where it is no limit.
seconds_of() {
    [[ $1 =~ ^(([0-9]+)-)?([0-9]+)(:([0-9]+))?(:([0-9]+))?$ ]] || return 0
    local days=${BASH_REMATCH[2]:-0} a=$((10#${BASH_REMATCH[3]})) b=$((10#${BASH_REMATCH[5]:-0}))
    local c=$((10#${BASH_REMATCH[7]:-0}))
    if [[ -n ${BASH_REMATCH[1]} || -n ${BASH_REMATCH[6]} ]]; then
        echo $((10#$days * 86400 + a * 3600 + b * 60 + c))
    else
        echo $((a * 60 + b))
    fi
}

# Refuses a time limit so short that most of it would go into starting and saving.
check_lead() {
    local limit
    limit=$(seconds_of "$1")
    [[ -z $limit ]] || ((3 * lead <= limit)) || fail "LEAD: $lead s before the end are more than a third of the time" \
        "limit of $limit s; give the job at least $((3 * lead)) s, or lower LEAD and --signal"
}

# The time limit that sbatch's options and environment ask for.
time_limit() {
    local option limit=${SBATCH_TIMELIMIT:-}
    for option in "$@"; do [[ $option != --time=* ]] || limit=${option#*=}; done
    echo "$limit"
}

# What a job that has been started has to be sure of.
check_job() {
    command -v scontrol >/dev/null || fail "scontrol is not there; put Slurm's commands on the PATH of the compute nodes"
    check_python
    check_lead "$(field_of_job TimeLimit)"
    ((${SLURM_RESTART_COUNT:-0} <= max_requeues)) || fail "MAX_REQUEUES: job $(job_id) has been requeued" \
        "$SLURM_RESTART_COUNT times, more than $max_requeues; see its log, then submit it again, which continues"
}

job_id() {
    if [[ -n ${SLURM_ARRAY_JOB_ID:-} ]]; then
        echo "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    else
        echo "$SLURM_JOB_ID"
    fi
}

# A field of what scontrol says of this job.
field_of_job() { scontrol show job -o "$(job_id)" | grep -o "\b$1=[^ ]*" | head -n 1 | cut -d= -f2; }

stopped=false
[[ -z ${SLURM_JOB_ID:-} ]] || trap 'stopped=true' USR1 TERM # which would end this script before it has begun

# Runs a training, or many, which SIGUSR1 makes save and leave with 130: then puts this job back into the queue, where
# it goes on. Where a process died (75, 137) it is run again here and now, twice at most. Ends with its exit code.
attempt() {
    local code=130 child= tries=0 noted
    # SIGTERM goes on as SIGUSR1: srun would answer it by killing what should be saving.
    trap 'noted=true; stopped=true; kill -USR1 "$child" 2>/dev/null || true' USR1 TERM
    until $stopped; do
        "$@" &
        child=$!
        ! $stopped || kill -USR1 "$child" # for one that came just before
        while :; do
            noted=false code=0
            wait "$child" || code=$?
            $noted || break # else it was the signal that ended `wait`
        done
        [[ $code == 75 || $code == 137 ]] && ((++tries <= 2)) || break
        $stopped || echo "a process has died (exit code $code): the same command again" >&2
    done
    if $stopped && ((code > 2)); then # also 138, where the signal came before Python could listen
        requeue
        code=130
    fi
    return "$code"
}

# Only while Slurm says that it runs: a job that its owner has cancelled stays so, and preemption requeues by itself.
requeue() {
    local state
    state=$(field_of_job JobState)
    if [[ $state != RUNNING && $state != SIGNALING ]]; then
        echo "job $(job_id) is $state: it does not requeue itself" >&2
    elif ((${SLURM_RESTART_COUNT:-0} >= max_requeues)); then
        fail "MAX_REQUEUES: job $(job_id) has been requeued $max_requeues times; submit it again, which continues"
    elif scontrol requeue "$(job_id)"; then
        echo "job $(job_id) is requeued" >&2
    else
        fail "scontrol requeue $(job_id) is refused; submit it again, which continues"
    fi
}
