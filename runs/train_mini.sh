#!/usr/bin/env bash
# Rebuilds the embedded bundle `mini` from the labelled genomes, and measures it against its baselines.
#
# Data: $SEQASSAY_DATA (default ../shared/data) with genomes/{train,valid,test}.fa.gz. Splits are by genome, taxon and
# study; selection and calibration are on valid and a part of train put aside, less what the rest of train knows of them;
# test is read once, by the benchmarks at the end. About three hours on two cores: both encoders side by side, one core
# each; then the baselines, then the figures.
# Interrupted, the same command goes on from its last checkpoints in $WORK.
set -euo pipefail
cd "$(dirname "$0")/.."
DATA="${SEQASSAY_DATA:-../shared/data}/genomes"
WORK="${WORK:-build/mini}"
PYTHON="${PYTHON:-.venv/bin/python}"
NUCLEOTIDE_STEPS="${NUCLEOTIDE_STEPS:-13600}"
PROTEIN_STEPS="${PROTEIN_STEPS:-2000}" # it learns no more of unseen taxa after
MINUTES="${MINUTES:-89}" # the schedule ends here when the steps take longer
VERSION="$("$PYTHON" -c 'import seqassay; print(seqassay.__version__)')"
RESULTS="benchmarks/results/$VERSION"
COMMON=(--data "$DATA" --work "$WORK" --seed 1)
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

mkdir -p "$WORK"
train() { # a part in the background: its steps, its minutes
  "$PYTHON" -m seqassay.train.mini "$1" "${COMMON[@]}" --steps "$2" --max-minutes "$3" > "$WORK/$1.log" 2>&1 &
}
# A part that fails ends this script with its status, and its log says why.
train nucleotide "$NUCLEOTIDE_STEPS" "$MINUTES"
nucleotide=$!
train protein "$PROTEIN_STEPS" "$MINUTES"
protein=$!
wait "$nucleotide"
wait "$protein"
unset OMP_NUM_THREADS
"$PYTHON" -m seqassay.train.mini bundle "${COMMON[@]}" --bundle src/seqassay/bundles/mini --threads 2
"$PYTHON" -c 'from seqassay.predict.doctor import record_known_answer; record_known_answer()'  # for `seqassay doctor`
for part in nucleotide protein; do
  cp "$WORK/$part/history.jsonl" "$RESULTS/mini_training_$part.jsonl"
done
"$PYTHON" benchmarks/train_baselines.py --data "$DATA" --work build/baselines
"$PYTHON" benchmarks/mini_ablation.py --data "$DATA" --output "$RESULTS/mini_ablation.json"
"$PYTHON" benchmarks/mini_accuracy.py --data "$DATA" --bundle mini --baselines build/baselines \
  --ablation "$RESULTS/mini_ablation.json" --histories "$RESULTS"/mini_training_*.jsonl --output "$RESULTS/mini_accuracy.json"
"$PYTHON" benchmarks/mini_card.py "$RESULTS/mini_accuracy.json" docs/models/mini.md --bundle mini
