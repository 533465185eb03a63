#!/usr/bin/env bash
# The parameter-allocation sweep at 1M parameters: ratios 25/35/45%, expansions 2.0/2.66/3.0/4.0, finalists with three
# seeds, on WikiText-2. Less than an hour on two cores; interrupted, the same command goes on where it was.
#
# Data: $SEQASSAY_DATA (default ../shared/data) with text/wikitext-2. The report is copied to benchmarks/results/.
set -euo pipefail
cd "$(dirname "$0")/.."
DATA="${SEQASSAY_DATA:-../shared/data}/text/wikitext-2"
WORK="${WORK:-build/sweep_1m}"
SEQASSAY="${SEQASSAY:-.venv/bin/seqassay}"
PYTHON="${PYTHON:-.venv/bin/python}"
RESULTS="benchmarks/results/$("$PYTHON" -c 'import seqassay; print(seqassay.__version__)')/sweep_1m"
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

mkdir -p "$WORK"
[ -e "$WORK/tokens/manifest.json" ] ||
  "$SEQASSAY" lm data build "$DATA" --documents wikitext --vocab-size 4224 -o "$WORK/tokens"
"$SEQASSAY" lm sweep runs/sweep_1m.yaml -o "$WORK/sweep" --tokens "$WORK/tokens" --jobs 2 --threads 1
mkdir -p "$RESULTS"
cp "$WORK/sweep"/{sweep.json,REPORT.md,results.csv,summary.csv,*.png} "$RESULTS/"
