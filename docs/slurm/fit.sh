#!/usr/bin/env bash
# Learning of a network and an SSN head from videos, on all GPUs of several machines.
#
#     sbatch --nodes=2 docs/slurm/fit.sh PRESET --videos VIDEOS --store STORE.zarr --annotations FILE \
#         --proposals TAG.npz --streams rgb --out RUN
#
# A job that ran out of time or lost a machine goes on from its last checkpoint when the same line is submitted again.
#SBATCH --job-name=ssn-feat-fit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log

set -euo pipefail

# Where the processes meet: the first machine of the job, at a port of the job's own.
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 10000))

export OMP_NUM_THREADS=1
srun torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv-backend c10d \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-endpoint "${hosts[0]}:$port" \
    -m ssn_feat fit end-to-end "$@" --resume
