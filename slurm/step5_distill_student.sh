#!/bin/bash
# Step 5: a student for each fold learns from labels and teachers, then is calibrated.
# Variables: SCRATCH_BASE, FOLDS, STUDENT_EPOCHS (docs/slurm.md)
#SBATCH --job-name=step5_distill_student
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --time=1440
#SBATCH --gres=gpu:1
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

trap '' USR1  # until tiebreak listens: Slurm's warning before the end
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}" || exit
[ -f run_step.sh ] || { own=$(squeue -h -j "$SLURM_JOB_ID" -o %o); cd "$(dirname "${own%%.sh*}")"; }
source ./run_step.sh 5 "$@"
