#!/usr/bin/env bash
# Rebuilds the embedded bundle `mini` from the labelled genomes, and measures it against its baselines.
#
# Data: $SEQASSAY_DATA (default ../shared/data) with genomes/{train,valid,test}.fa.gz. Splits are by genome, taxon and
# study; selection and calibration are on valid, test is read once, by the benchmarks at the end. About three hours on
# two cores: both encoders side by side, one core each, then the baselines, then the figures.
# Interrupted, the same command goes on from its last checkpoints in $WORK.
set -euo pipefail
cd "$(dirname "$0")/.."
DATA="${SEQASSAY_DATA:-../shared/data}/genomes"
WORK="${WORK:-build/mini}"
PYTHON="${PYTHON:-.venv/bin/python}"
STEPS="${STEPS:-12000}"
MINUTES="${MINUTES:-80}" # the schedule ends here when the steps take longer
VERSION="$("$PYTHON" -c 'import seqassay; print(seqassay.__version__)')"
RESULTS="benchmarks/results/$VERSION"
COMMON=(--data "$DATA" --work "$WORK" --steps "$STEPS" --max-minutes "$MINUTES" --seed 1)
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

mkdir -p "$WORK"
"$PYTHON" -m seqassay.train.mini nucleotide "${COMMON[@]}" > "$WORK/nucleotide.log" 2>&1 &
NUCLEOTIDE=$!
"$PYTHON" -m seqassay.train.mini protein "${COMMON[@]}" > "$WORK/protein.log" 2>&1 &
PROTEIN=$!
wait "$NUCLEOTIDE" # a run that failed ends this script here, with its status; its log says why
wait "$PROTEIN"
unset OMP_NUM_THREADS
"$PYTHON" -m seqassay.train.mini bundle "${COMMON[@]}" --bundle src/seqassay/bundles/mini --threads 2
"$PYTHON" -c 'from seqassay.predict.doctor import record_known_answer; record_known_answer()'  # for `seqassay doctor`
for side in nucleotide protein; do cp "$WORK/$side/history.jsonl" "$RESULTS/mini_training_$side.jsonl"; done
"$PYTHON" benchmarks/train_baselines.py --data "$DATA" --work build/baselines
"$PYTHON" benchmarks/mini_ablation.py --data "$DATA" --output "$RESULTS/mini_ablation.json"
"$PYTHON" benchmarks/mini_accuracy.py --data "$DATA" --bundle mini --baselines build/baselines \
  --ablation "$RESULTS/mini_ablation.json" --output "$RESULTS/mini_accuracy.json"
"$PYTHON" benchmarks/mini_card.py "$RESULTS/mini_accuracy.json" docs/models/mini.md
