"""Is `predict` three times as fast as the reference procedure on the same work, with the same calls?

    python benchmarks/end_to_end.py [--reads 2000] [--repeats 3]

Work: 150-bp reads cut from real genomes ($SEQASSAY_DATA or ../shared/data), the same random weights on both sides,
float32, two files of results. Two shapes: ``mini``, that of the embedded bundle's encoders (ESM-2 2 × 128, DNABERT-S
1 × 128), and ``8M`` (ESM-2 in its 8M shape, DNABERT-S 4 × 384), in which nearly all of the time is matrix products that
both sides must do. The bar is for small weights, hence for ``mini``'s shape; both are printed and kept. The reference
procedure is VirNucPro's, step by step (`seqassay.prove.pipeline.reference_procedure`): files between the steps,
DNABERT-S one sequence at a time, fair-esm in batches of 2,048 tokens, the head in batches of 256. Runs alternate in one
process; both load their models and libraries are imported before.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from Bio import SeqIO
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

import seqassay
from reference_models import random_dnabert_state
from seqassay.config import PredictSettings
from seqassay.measure.provenance import provenance, utc_now
from seqassay.models.bundle import write_bundle
from seqassay.models.esm2 import ESM2_SIZES, Esm2Config
from seqassay.models.head import ClassifierHead
from seqassay.predict.run import predict
from seqassay.prove.pipeline.reference_files import ReferenceFiles
from seqassay.prove.pipeline.reference_procedure import run_reference

RESULTS = Path(__file__).parent / "results" / seqassay.__version__ / "end_to_end.json"
READ_LENGTH = 150
CHUNK_LENGTH = 300
SEED = 7
BAR_RATIO, BAR_SCORE = 3.0, 1e-4
HEAD_DIM = 64  # of DNABERT-S


@dataclass(frozen=True)
class Shape:
    """Sizes of both encoders; inner layers are four times as wide, as published."""

    nucleotide_d_model: int
    nucleotide_layers: int
    protein: Esm2Config


SHAPES = {
    "mini": Shape(128, 1, Esm2Config(n_layers=2, d_model=128, n_heads=2)),
    "8M": Shape(384, 4, ESM2_SIZES["8M"]),
}


def real_reads(n: int) -> list[tuple[str, str]]:
    """``n`` reads from records of the test split, drawn evenly over its bases; only those with plain letters."""
    data = Path(os.environ.get("SEQASSAY_DATA", Path(__file__).parents[2] / "shared" / "data")) / "genomes"
    file = data / "test.fa.gz"
    if not file.is_file():
        sys.exit(f"real sequences are not here: no {file} (set SEQASSAY_DATA)")
    with gzip.open(file, "rt") as handle:
        genomes = [str(r.seq).upper() for r in SeqIO.parse(handle, "fasta") if len(r.seq) >= READ_LENGTH]
    rng = np.random.default_rng(SEED)
    weights = np.array([len(g) for g in genomes], float)
    reads: list[tuple[str, str]] = []
    while len(reads) < n:
        genome = genomes[rng.choice(len(genomes), p=weights / weights.sum())]
        start = int(rng.integers(len(genome) - READ_LENGTH + 1))
        read = genome[start : start + READ_LENGTH]
        if set(read) <= set("ACGT"):
            reads.append((f"read{len(reads) + 1}", read))
    return reads


def trained_tokenizer(reads: list[tuple[str, str]]) -> Tokenizer:
    """A 4,096-token BPE over the reads, made up like the published one."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    trainer = trainers.BpeTrainer(vocab_size=4096, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator((bases for _, bases in reads), trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def random_weights(folder: Path, tokenizer: Tokenizer, shape: Shape) -> tuple[ReferenceFiles, Path]:
    """Random weights in the files that the reference loads, and a bundle of ours made of them."""
    import esm

    torch.manual_seed(SEED)
    d_model, n_layers, esm2 = shape.nucleotide_d_model, shape.nucleotide_layers, shape.protein
    n_heads = d_model // HEAD_DIM
    alphabet = esm.Alphabet.from_architecture("ESM-1b")
    protein = esm.model.esm2.ESM2(esm2.n_layers, esm2.d_model, esm2.n_heads, alphabet).eval()
    head = ClassifierHead(d_model + esm2.d_model).eval()
    with torch.no_grad():
        head.output_layer.weight.mul_(4)

    nucleotide = folder / "nucleotide"
    nucleotide.mkdir()
    files = ReferenceFiles(
        dnabert=nucleotide / "pytorch_model.bin",
        tokenizer=nucleotide / "tokenizer.json",
        dnabert_heads=n_heads,
        esm2=folder / "esm2_t6_8M_UR50D.pt",
        classifier=folder / "model.pth",
    )
    torch.save(random_dnabert_state(d_model=d_model, n_layers=n_layers, d_ff=4 * d_model), files.dnabert)
    tokenizer.save(str(files.tokenizer))
    config = {
        "architectures": ["BertForMaskedLM"], "model_type": "bert", "hidden_size": d_model,
        "num_attention_heads": n_heads, "num_hidden_layers": n_layers, "intermediate_size": 4 * d_model,
        "vocab_size": 4096, "layer_norm_eps": 1e-12,
    }  # fmt: skip
    (nucleotide / "config.json").write_text(json.dumps(config))
    cfg = argparse.Namespace(
        encoder_layers=esm2.n_layers,
        encoder_embed_dim=esm2.d_model,
        encoder_attention_heads=esm2.n_heads,
        token_dropout=True,
    )
    torch.save({"model": protein.state_dict(), "cfg": {"model": cfg}}, files.esm2)
    torch.save(head.state_dict(), files.classifier)
    bundle = write_bundle(
        folder / "bundle", name="random", nucleotide=nucleotide, protein=files.esm2, head=head,
        chunk_length=CHUNK_LENGTH,
    )  # fmt: skip
    return files, bundle.path


def differences(ours: Path, reference: Path) -> tuple[int, int, float]:
    """Frames, frames with another label, largest difference of a score; the frames must be the same."""
    tables = []
    for path in (ours, reference):
        with path.open(newline="") as handle:
            tables.append({row["Sequence_ID"]: row for row in csv.DictReader(handle, delimiter="\t")})
    mine, theirs = tables
    if mine.keys() != theirs.keys():
        sys.exit(f"not the same frames: {len(mine)} against {len(theirs)}")
    flips = sum(mine[k]["Prediction"] != theirs[k]["Prediction"] for k in mine)
    worst = max(abs(float(mine[k][c]) - float(theirs[k][c])) for k in mine for c in ("score1", "score2"))
    return len(mine), flips, worst


def measured(shape: Shape, reads: list[tuple[str, str]], repeats: int) -> dict[str, Any]:
    """Alternate both on the reads, once unmeasured, and compare their tables."""
    ours_s: list[float] = []
    reference_s: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fasta, few = folder / "reads.fasta", folder / "few.fasta"
        fasta.write_text("".join(f">{i}\n{s}\n" for i, s in reads))
        few.write_text("".join(f">{i}\n{s}\n" for i, s in reads[:50]))
        files, bundle = random_weights(folder, trained_tokenizer(reads), shape)
        settings = PredictSettings(
            inputs=(str(fasta),), output_dir=folder / "ours", model=str(bundle), device="cpu", force=True
        )
        theirs = folder / "reference"
        theirs.mkdir()
        run_reference(few, files, theirs, chunk_length=CHUNK_LENGTH)
        predict(replace(settings, inputs=(str(few),)))
        for _ in range(repeats):
            began = time.perf_counter()
            table = run_reference(fasta, files, theirs, chunk_length=CHUNK_LENGTH)
            middle = time.perf_counter()
            predict(settings)
            reference_s.append(middle - began)
            ours_s.append(time.perf_counter() - middle)
        n_frames, flips, worst = differences(folder / "ours" / "prediction_results.txt", table)
    ratios = [r / o for r, o in zip(reference_s, ours_s, strict=True)]
    return {
        "frames": n_frames, "reference_s": reference_s, "ours_s": ours_s,
        "ratio_median": statistics.median(ratios), "ratio_min": min(ratios),
        "label_flips": flips, "largest_score_difference": worst,
    }  # fmt: skip


def main() -> None:
    """Measure every shape, print and keep the samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reads", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    reads = real_reads(args.reads)
    shapes = {name: measured(shape, reads, args.repeats) for name, shape in SHAPES.items()}
    record = {
        "benchmark": "end_to_end", "time": utc_now(), "reads": args.reads, "shapes": shapes,
        "bars": {"ratio of mini": BAR_RATIO, "score": BAR_SCORE}, "provenance": provenance(),
    }  # fmt: skip
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    for name, figures in shapes.items():
        print(f"shape {name}: {args.reads} reads, {figures['frames']} frames, {args.repeats} alternating runs")
        print(f"  reference procedure  {statistics.median(figures['reference_s']):8.2f} s")
        print(f"  seqassay predict     {statistics.median(figures['ours_s']):8.2f} s")
        print(f"  ratio                {figures['ratio_median']:8.2f}   (lowest {figures['ratio_min']:.2f})")
        print(
            f"  labels that differ {figures['label_flips']}, "
            f"largest score difference {figures['largest_score_difference']:.1e} (bar {BAR_SCORE:.0e})"
        )
    keys = ("ratio_median", "ratio_min", "label_flips", "largest_score_difference")
    print(json.dumps({name: {key: figures[key] for key in keys} for name, figures in shapes.items()}))
    same = all(f["label_flips"] == 0 and f["largest_score_difference"] <= BAR_SCORE for f in shapes.values())
    if not same or shapes["mini"]["ratio_median"] < BAR_RATIO:
        sys.exit(1)


if __name__ == "__main__":
    main()
