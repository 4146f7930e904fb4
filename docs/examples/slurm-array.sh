#!/bin/sh
# One task of a Slurm job array takes every n-th case; all write into one folder.
#
#   job=$(sbatch --parsable docs/examples/slurm-array.sh cases.csv hippocampus out)
#   sbatch --dependency=afterany:$job --wrap "voxtile merge out"
#
# A task that was pre-empted or timed out is sent again and does what is missing.
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
