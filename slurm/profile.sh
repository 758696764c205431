# The one file to adapt to your cluster: every job sources it. What you give to sbatch as flags wins.

# The recipe that the steps begin with (a copy of it, <SCRATCH_BASE>/recipe.yaml, is what they go on with):
# `tiebreak slurm init FOLDER --preset sc4000 --votes train.csv` writes it beside this file.
: "${RECIPE:=recipe.yaml}"

# Where to run. `source profile.sh` in your shell once before the nine commands; `tiebreak slurm submit` and
# `tiebreak run --on slurm` read it by themselves (the latter by slurm.profile in the recipe).
# export SBATCH_PARTITION=gpu
# export SBATCH_QOS=normal
# export SBATCH_ACCOUNT=my-project
# export SBATCH_GRES=gpu:v100:1
# export SBATCH_TIMELIMIT=1440        # minutes; what needs longer saves a checkpoint and is requeued

# Below: only inside jobs.
if [ -n "${SLURM_JOB_ID:-}" ]; then
  :
  # module load anaconda
  # conda activate myenv              # or: source /home/me/venv/bin/activate
  # export HF_HOME=/scratch/me/hub HF_HUB_OFFLINE=1    # after `tiebreak fetch` on the login node
fi
