#!/bin/bash
# Step 2: folds stratified by label and grouped by prompt, and a lockbox.
# Variables: SCRATCH_BASE (docs/slurm.md)
#SBATCH --job-name=step2_make_folds
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --time=60
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

trap '' USR1  # until tiebreak listens: Slurm's warning before the end
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}" || exit
[ -f run_step.sh ] || { own=$(squeue -h -j "$SLURM_JOB_ID" -o %o); cd "$(dirname "${own%%.sh*}")"; }
source ./run_step.sh 2 "$@"
