#!/usr/bin/env bash
# The parameter-allocation sweep at 10M parameters, vocabulary 16,384: ratios 25/35/45%, expansions 2.0/2.66/3.0/4.0,
# 5M tokens for the ranking, 50M for the finalists with three seeds. For a CUDA device; one training on each there is.
#
# Text: $TEXT, a folder of train.txt, valid.txt and test.txt, compressed or not, whose documents end as $DOCUMENTS says
# (default: text/books in $SEQASSAY_DATA: 14M words, which the final goes through two to three times).
# Interrupted, the same command goes on where it was. The report is copied to benchmarks/results/.
set -euo pipefail
cd "$(dirname "$0")/.."
TEXT="${TEXT:-${SEQASSAY_DATA:-../shared/data}/text/books}"
DOCUMENTS="${DOCUMENTS:-file}"
WORK="${WORK:-build/sweep_10m}"
SEQASSAY="${SEQASSAY:-.venv/bin/seqassay}"
PYTHON="${PYTHON:-.venv/bin/python}"
RESULTS="benchmarks/results/$("$PYTHON" -c 'import seqassay; print(seqassay.__version__)')/sweep_10m"
export TOKENIZERS_PARALLELISM=false

"$PYTHON" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "no CUDA device: two cores would take weeks (runs/sweep_1m.sh is for them)")'
mkdir -p "$WORK"
[ -e "$WORK/tokens/manifest.json" ] ||
  "$SEQASSAY" lm data build "$TEXT" --documents "$DOCUMENTS" --vocab-size 16384 -o "$WORK/tokens"
"$SEQASSAY" lm sweep runs/sweep_10m.yaml -o "$WORK/sweep" --tokens "$WORK/tokens" "$@"
mkdir -p "$RESULTS"
cp "$WORK/sweep"/{sweep.json,REPORT.md,results.csv,summary.csv,*.png} "$RESULTS/"
