#!/bin/bash
# Step 4: teachers score their fold's rows in both orders.
# Variables: SCRATCH_BASE, INFER_FOLDS, INFER_MODELS, INFER_LLAMA_SUBSET, INFER_QWEN_SUBSET, INFER_LOGPROB_BATCH,
# INFER_PROGRESS_EVERY, INFER_TRAIN_SHARDS, INFER_TRAIN_SHARD_ID, INFER_MAX_SEQ_LEN, INFER_PREFER_LORA (docs/slurm.md)
#SBATCH --job-name=step4_infer_teacher_logits
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --time=1440
#SBATCH --gres=gpu:1
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

trap '' USR1  # until tiebreak listens: Slurm's warning before the end
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}" || exit
[ -f run_step.sh ] || { own=$(squeue -h -j "$SLURM_JOB_ID" -o %o); cd "$(dirname "${own%%.sh*}")"; }
source ./run_step.sh 4 "$@"
