#!/bin/sh
# Each task of a Slurm job array takes every n-th case; all tasks write into one folder.
#
#   job=$(sbatch --parsable docs/examples/slurm-array.sh cases.csv hippocampus out)
#   sbatch --dependency=afterany:$job --wrap "voxtile merge out --manifest cases.csv"
#
# Slurm starts a task again if it was pre-empted or ran out of time; it then does only the missing
# cases.
#SBATCH --job-name=voxtile
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@60
set -eu
manifest=$1
model=$2
out=$3
exec voxtile run "$manifest" "$model" --out "$out" --shard auto
