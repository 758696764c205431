# What the nine scripts share, in their folder and inside a job: source ./run_step.sh NUMBER [--set KEY=VALUE]...

if ! source ./profile.sh; then
  echo "error: profile.sh in $PWD is missing or fails; write a folder with one: tiebreak slurm init FOLDER --preset sc4000 --votes FILE" >&2
  exit 2
fi
if ! command -v tiebreak >/dev/null; then
  echo "error: there is no tiebreak in this job; let $PWD/profile.sh activate its environment" >&2
  exit 2
fi
exec tiebreak step "$1" "$RECIPE" "${@:2}"
