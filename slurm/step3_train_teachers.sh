#!/bin/bash
# Step 3: a teacher for each fold.
# Variables: SCRATCH_BASE, TEACHER_FOLDS, TEACHER_SUBSET_SIZE, TEACHER_MAX_STEPS, TEACHER_EPOCHS, TEACHER_LR,
# TEACHER_MAXLEN, TEACHER_LORA_R, TEACHER_LORA_ALPHA, TEACHER_TIME_BUDGET_HOURS, SKIP_LLAMA, SKIP_QWEN (docs/slurm.md)
#SBATCH --job-name=step3_train_teachers
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --time=1440
#SBATCH --gres=gpu:1
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

trap '' USR1  # until tiebreak listens: Slurm's warning before the end
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}" || exit
[ -f run_step.sh ] || { own=$(squeue -h -j "$SLURM_JOB_ID" -o %o); cd "$(dirname "${own%%.sh*}")"; }
source ./run_step.sh 3 "$@"
