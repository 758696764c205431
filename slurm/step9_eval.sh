#!/bin/bash
# Step 9: metrics with intervals, the report, the submission, the model card.
# Variables: SCRATCH_BASE, USE_WEIGHTED (docs/slurm.md)
#SBATCH --job-name=step9_eval
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --time=60
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

trap '' USR1  # until tiebreak listens: Slurm's warning before the end
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}" || exit
[ -f run_step.sh ] || { own=$(squeue -h -j "$SLURM_JOB_ID" -o %o); cd "$(dirname "${own%%.sh*}")"; }
source ./run_step.sh 9 "$@"
