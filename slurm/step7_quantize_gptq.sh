#!/bin/bash
# Step 7: GPTQ, 8 bits; the score head is left alone.
# Variables: SCRATCH_BASE (docs/slurm.md)
#SBATCH --job-name=step7_quantize_gptq
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --time=480
#SBATCH --gres=gpu:1
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

trap '' USR1  # until tiebreak listens: Slurm's warning before the end
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}" || exit
[ -f run_step.sh ] || { own=$(squeue -h -j "$SLURM_JOB_ID" -o %o); cd "$(dirname "${own%%.sh*}")"; }
source ./run_step.sh 7 "$@"
