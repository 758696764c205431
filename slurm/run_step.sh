# What the nine scripts share, in their folder and inside a job: source ./run_step.sh NUMBER [--set KEY=VALUE]...

# for the commands after it, where this job ends before tiebreak knows of it
[ -z "${SLURM_JOB_ID:-}" ] || printf '%s\t%s\t%s\n' "$SLURM_JOB_ID" "$1" "${SCRATCH_BASE//$'\n'/ }" >> .starts

if ! source ./profile.sh; then
  echo "error: profile.sh in $PWD is missing or fails; write a folder with one: tiebreak slurm init FOLDER --preset sc4000 --votes FILE" >&2
  exit 2
fi
if ! command -v tiebreak >/dev/null; then
  echo "error: there is no tiebreak in this job; let $PWD/profile.sh activate its environment" >&2
  exit 2
fi
exec tiebreak step "$1" "$RECIPE" "${@:2}"
