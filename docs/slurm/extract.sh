#!/usr/bin/env bash
# Features of a data set, its videos dealt out to the tasks of a job array; each task writes to the same store.
#
#     sbatch --array=1-8 docs/slurm/extract.sh VIDEOS STORE.zarr [options of ssn-feat extract]
#
# The same line again does what is left: tasks that ran out of time, or videos that failed. The number of tasks may
# differ from the time before.
#SBATCH --job-name=ssn-feat-extract
#SBATCH --array=1-8
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=%x-%A-%a.log

set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: sbatch --array=1-N extract.sh VIDEOS STORE.zarr [options]" >&2
    exit 2
fi

# An array may begin anywhere and leave numbers out: 10-40:10 has the parts 1 to 4.
first=${SLURM_ARRAY_TASK_MIN:?is set by sbatch --array}
step=${SLURM_ARRAY_TASK_STEP:-1}
part=$(((SLURM_ARRAY_TASK_ID - first) / step + 1))
parts=$(((SLURM_ARRAY_TASK_MAX - first) / step + 1))

# Threads of libraries beside the processes that extraction starts by itself would only get in their way.
export OMP_NUM_THREADS=1
srun ssn-feat extract "$@" --shard "$part/$parts"
