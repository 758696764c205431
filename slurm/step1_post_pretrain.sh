#!/bin/bash
# Step 1: every model learns the task on preference pairs; the adapters carry over.
# Variables: SCRATCH_BASE, RUN_STAGE, TEACHER_LORA_R, TEACHER_LORA_ALPHA (docs/slurm.md)
#SBATCH --job-name=step1_post_pretrain
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --time=1440
#SBATCH --gres=gpu:1
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

trap '' USR1  # until tiebreak listens: Slurm's warning before the end
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}" || exit
[ -f run_step.sh ] || { own=$(squeue -h -j "$SLURM_JOB_ID" -o %o); cd "$(dirname "${own%%.sh*}")"; }
source ./run_step.sh 1 "$@"
