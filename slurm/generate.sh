#!/usr/bin/env bash
# One dataset by an array of Slurm jobs: task k of n makes every n-th shard, a last job finishes and checks the dataset.
#
#   slurm/generate.sh [--dry-run] CONFIG data.num_tasks=16 [key=value ...]     keys of `python -m data_gen --help`
#
# --dry-run prints the exact sbatch lines and submits nothing. The same command again continues: finished shards stay,
# a complete dataset submits nothing. A task that is killed or requeued continues where it was; if one fails, the last
# job does not run. Exit code 0: submitted, or complete already; 2: bad input, nothing is submitted.
#
# Settings come from slurm/cluster.env, if it is there, or the environment:
#   SBATCH_ACCOUNT, SBATCH_PARTITION, SBATCH_QOS, SBATCH_TIMELIMIT and so on: sbatch reads them itself
#   PYTHON            .venv/bin/python
#   GENERATE_CPUS     cores, and so worker processes, of a task: 4
#   GENERATE_OPTIONS  further options of sbatch, e.g. "--mem=8G --exclude=node7"
#   LOGS              folder of the jobs' output: slurm/logs
set -euo pipefail

fail() { echo "error: $*" >&2; exit 2; }

# Slurm runs a copy of a submitted script, so its own place says nothing then.
root=${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
[[ -d $root/data_gen ]] || fail "$root is not the repository; run slurm/generate.sh from there"
if [[ -f $root/slurm/cluster.env ]]; then
    set -a
    # shellcheck source=/dev/null
    . "$root/slurm/cluster.env"
    set +a
fi
python=${PYTHON:-$root/.venv/bin/python}
cpus=${GENERATE_CPUS:-4}
logs=${LOGS:-$root/slurm/logs}
read -ra further <<<"${GENERATE_OPTIONS:-}"

dry_run=false
num_tasks=
arguments=()
for argument in "$@"; do
    case $argument in
        --dry-run) dry_run=true ;;
        data.num_tasks=*) num_tasks=${argument#*=} ;;
        data.task=*) fail "$argument: the tasks are numbered by slurm/generate.sh; leave it out" ;;
        data.num_workers=*) fail "$argument: set GENERATE_CPUS, the cores of a task, instead" ;;
        *) arguments+=("$argument") ;;
    esac
done
((${#arguments[@]})) || fail "no config given; say: slurm/generate.sh [--dry-run] CONFIG data.num_tasks=16 [key=value ...]"
[[ $num_tasks =~ ^[1-9][0-9]{0,4}$ ]] || fail "data.num_tasks: '$num_tasks' is no number of tasks; give e.g. data.num_tasks=16"
$dry_run || command -v sbatch >/dev/null || fail "sbatch is not there; run this on a login node of a Slurm cluster, or with --dry-run"

# Everything wrong with the config is said here, by the generator itself, before anything waits in a queue.
plan=$("$python" -m data_gen "${arguments[@]}" --describe) || exit $?
fields=$("$python" -c '
import json, sys
plan = json.load(sys.stdin)
print(plan["hash"], plan["num_shards"], int(plan["complete"]), plan["path"])
' <<<"$plan")
read -r hash num_shards complete path <<<"$fields"
if ((complete)); then
    echo "$path is complete already" >&2
    echo "$path"
    exit 0
fi
if ((num_tasks > num_shards)); then
    echo "note: there are $num_shards shards, so $num_shards tasks are enough" >&2
    num_tasks=$num_shards
fi

quoted() { printf '%q ' "$@"; }
make=$(quoted "$python" -m data_gen "${arguments[@]}" "data.num_workers=$cpus")
check=$(quoted "$python" -m data_gen.verify "$path" "num_workers=$cpus")
common=(--parsable --chdir="$PWD" --ntasks=1 --cpus-per-task="$cpus" --requeue --open-mode=append "${further[@]}")
array=(sbatch "${common[@]}" --job-name="make-$hash" --output="$logs/make-$hash-%a.out" --array="0-$((num_tasks - 1))"
    --wrap="exec ${make}data.num_tasks=$num_tasks data.task=\$SLURM_ARRAY_TASK_ID")
last=(sbatch "${common[@]}" --job-name="finish-$hash" --output="$logs/finish-$hash.out" --kill-on-invalid-dep=yes
    --wrap="${make}&& exec ${check% }")

if $dry_run; then
    echo "$(quoted "${array[@]}")"
    echo "$(quoted "${last[@]}")--dependency=afterok:ARRAY_JOB"
    exit 0
fi
mkdir -p "$logs"
array_job=$("${array[@]}")
array_job=${array_job%%;*} # of several clusters, the name follows
if ! last_job=$("${last[@]}" --dependency="afterok:$array_job"); then
    fail "array job $array_job is submitted, the job that finishes the dataset is not; run the same command again later"
fi
echo "submitted: array job $array_job ($num_tasks tasks), then job ${last_job%%;*}; output in $logs" >&2
echo "$path"
