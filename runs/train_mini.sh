#!/usr/bin/env bash
# Rebuilds the embedded bundle `mini` from the labelled genomes, and measures it against its baselines.
#
# Data: $SEQASSAY_DATA (default ../shared/data) with genomes/{train,valid,test}.fa.gz. Splits are by genome, taxon and
# study; selection and calibration are on valid less what train knows of it, test is read once, by the benchmarks at the
# end. About five hours on two cores: both encoders side by side on real sequences, one core each; then the nucleotide
# encoder with made-up sequences among the others; then both are joined, calibrated and given their default thresholds;
# then the baselines, then the figures.
# Interrupted, the same command goes on from its last checkpoints in $WORK.
# The schedules end by the clock, so another machine, or another day, gives other weights of the same recipe. With
# MINUTES and FINISH_MINUTES too large to matter (1e9) the steps alone decide, and the trained weights are the same bit
# for bit on one machine. The calibration's may differ in the 14th decimal, and with them the bundle's digest.
set -euo pipefail
cd "$(dirname "$0")/.."
DATA="${SEQASSAY_DATA:-../shared/data}/genomes"
WORK="${WORK:-build/mini}"
PYTHON="${PYTHON:-.venv/bin/python}"
STEPS="${STEPS:-12000}"
MINUTES="${MINUTES:-80}" # the schedule ends here when the steps take longer
FINISH_STEPS="${FINISH_STEPS:-12000}"
FINISH_MINUTES="${FINISH_MINUTES:-78}"
VERSION="$("$PYTHON" -c 'import seqassay; print(seqassay.__version__)')"
RESULTS="benchmarks/results/$VERSION"
COMMON=(--data "$DATA" --work "$WORK" --seed 1)
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

mkdir -p "$WORK"
train() { # a part in the background: its steps, its minutes
  "$PYTHON" -m seqassay.train.mini "$1" "${COMMON[@]}" --steps "$2" --max-minutes "$3" > "$WORK/$1.log" 2>&1 &
}
# A part that fails ends this script with its status, and its log says why.
train nucleotide "$STEPS" "$MINUTES"
nucleotide=$!
train protein "$STEPS" "$MINUTES"
protein=$!
wait "$nucleotide"
train nucleotide-finish "$FINISH_STEPS" "$FINISH_MINUTES"
finish=$!
wait "$protein"
wait "$finish"
unset OMP_NUM_THREADS
"$PYTHON" -m seqassay.train.mini bundle "${COMMON[@]}" --bundle src/seqassay/bundles/mini --threads 2
"$PYTHON" -c 'from seqassay.predict.doctor import record_known_answer; record_known_answer()'  # for `seqassay doctor`
for part in nucleotide nucleotide-finish protein; do
  cp "$WORK/$part/history.jsonl" "$RESULTS/mini_training_${part//-/_}.jsonl"
done
"$PYTHON" benchmarks/train_baselines.py --data "$DATA" --work build/baselines
"$PYTHON" benchmarks/mini_ablation.py --data "$DATA" --output "$RESULTS/mini_ablation.json"
"$PYTHON" benchmarks/mini_accuracy.py --data "$DATA" --bundle mini --baselines build/baselines \
  --ablation "$RESULTS/mini_ablation.json" --histories "$RESULTS"/mini_training_*.jsonl --output "$RESULTS/mini_accuracy.json"
"$PYTHON" benchmarks/mini_groups.py --data "$DATA" --baselines build/baselines --output "$RESULTS/mini_groups.json"
"$PYTHON" benchmarks/mini_card.py "$RESULTS/mini_accuracy.json" docs/models/mini.md --bundle mini
