#!/bin/bash
#SBATCH --job-name=statepress --array=0-9 --ntasks=1 --cpus-per-task=1 --mem=8G --time=04:00:00 --requeue
#SBATCH --signal=TERM@60
# Ten tasks share manifest.txt. A minute before its time is over a task stops cleanly; it is queued again then, and where another
# try may help (75), and goes on with what is missing.
srun statepress batch manifest.txt -o pressed --recipe int8 --skip-existing --max-memory 7000000000 \
  --shard-env "SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" > "lines/$SLURM_ARRAY_TASK_ID.jsonl"
code=$?
case $code in 75 | 143) scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" ;; esac
exit $code
