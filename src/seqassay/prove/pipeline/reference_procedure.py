"""VirNucPro's prediction, step by step as its authors run it on a CPU: what `predict` is compared with.

Every step leaves files that the next one reads: chunks; the stop-free frames' bases and residues; these in files of
10,000 sequences; for each file DNABERT-S's means (transformers tokenizer, one sequence at a time) and ESM-2's
(fair-esm, 2,048 tokens a batch); both merged; the classifier in batches of 256; a table. ``UnpaddingDnabert`` takes the
published model's path, which gathers the positions that are not padding, spreads them out for attention in every layer
and gathers them again, and ends in a pooler. Left out, in the reference's favour: progress bars, prints, and the four
loader processes of the last step. Chunks are cut by the bundle's rule, so that both sides do the same work.

Needs the packages of the extra ``reference``.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from Bio import SeqIO
from Bio.SeqRecord import SeqRecord
from torch import Tensor

from seqassay.models.weights import head_from_tensors
from seqassay.prove.pipeline.reference_dnabert import UnpaddingDnabert
from seqassay.prove.pipeline.reference_files import ReferenceFiles
from seqassay.sequences.chunking import ChunkRule, chunk

SEQUENCES_PER_FILE = 10_000
TOKENS_PER_BATCH = 2048
CLASSIFIER_BATCH = 256
TRUNCATION_LENGTH = 1024
_BASES = "TCAG"
_CODONS = [a + b + c for a in _BASES for b in _BASES for c in _BASES]
_CODE = dict(zip(_CODONS, "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG", strict=True))
_COMPLEMENT = str.maketrans("ACGTacgt", "TGCAtgca")


def run_reference(
    fasta: Path, files: ReferenceFiles, folder: Path, *, chunk_length: int, chunk_rule: ChunkRule = "even"
) -> Path:
    """The whole procedure in a folder of its own; the table it ends in."""
    chunks = folder / "chunks.fa"
    write_chunks(fasta, chunks, chunk_length, chunk_rule)
    nucleotide, protein = folder / "nucleotide.fa", folder / "protein.faa"
    write_frames(chunks, nucleotide, protein)
    merged = []
    for bases, residues in zip(split_file(nucleotide), split_file(protein), strict=True):
        of_bases, of_residues = bases.with_suffix(".dnabert.pt"), residues.with_suffix(".esm.pt")
        dnabert_features(bases, of_bases, files)
        esm_features(residues, of_residues, files)
        merged.append(merge(of_bases, of_residues, bases.with_suffix(".merged.pt")))
    return classify(merged, files, folder / "prediction_results.txt")


def write_chunks(fasta: Path, output: Path, chunk_length: int, rule: ChunkRule = "even") -> None:
    """Chunks of every record; a record that is no longer than a chunk is one."""
    with output.open("w") as handle:
        for record in _parsed(fasta):
            found = chunk(np.array([len(record)]), chunk_length, rule)
            for number, start, length in zip(found.number, found.start, found.length, strict=True):
                piece = record[int(start) : int(start + length)]
                piece.id, piece.description = f"{record.id}_chunk_{number}", ""
                SeqIO.write(piece, handle, "fasta")


def write_frames(chunks: Path, nucleotide: Path, protein: Path) -> None:
    """Bases and residues of the frames without a stop."""
    with nucleotide.open("w") as bases_out, protein.open("w") as residues_out:
        for record in list(_parsed(chunks)):
            for name, bases, residues in stop_free_frames(record):
                bases_out.write(f">{name}\n{bases}\n")
                residues_out.write(f">{name}\n{residues}\n")


def stop_free_frames(record: SeqRecord) -> Iterator[tuple[str, str, str]]:
    """Frame id, bases (with the reference's one base more) and residues."""
    forward = str(record.seq).upper()
    for strand, sequence in (("F", forward), ("R", forward.translate(_COMPLEMENT)[::-1])):
        for offset in range(3):
            residues = "".join(_CODE.get(sequence[i : i + 3], "") for i in range(offset, len(sequence) - 2, 3))
            if residues and "*" not in residues:
                bases = sequence[offset : offset + 3 * len(residues) + 1]
                yield f"{record.id}{strand}{offset + 1}", bases, residues


def _parsed(fasta: Path) -> Iterator[SeqRecord]:
    return SeqIO.parse(fasta, "fasta")  # type: ignore[no-any-return, no-untyped-call]


def split_file(fasta: Path) -> list[Path]:
    """Files of at most 10,000 sequences."""
    parts: list[Path] = []
    n_sequences = 0
    out = None
    with fasta.open() as lines:
        for line in lines:
            if line.startswith(">"):
                if n_sequences % SEQUENCES_PER_FILE == 0:
                    if out is not None:
                        out.close()
                    parts.append(fasta.with_name(f"{fasta.stem}_{len(parts) + 1}{fasta.suffix}"))
                    out = parts[-1].open("w")
                n_sequences += 1
            if out is not None:
                out.write(line)
    if out is not None:
        out.close()
    return parts


def dnabert_features(fasta: Path, output: Path, files: ReferenceFiles) -> None:
    """Mean over all positions, one sequence at a time, float32."""
    tokenizer = importlib.import_module("transformers").PreTrainedTokenizerFast(tokenizer_file=str(files.tokenizer))
    model = UnpaddingDnabert(torch.load(files.dnabert, weights_only=True), n_heads=files.dnabert_heads).eval()
    names, data = [], []
    for record in list(_parsed(fasta)):
        inputs = tokenizer(str(record.seq), return_tensors="pt")
        with torch.no_grad():
            mean = model(inputs["input_ids"])[0].mean(dim=1)
        names.append(record.id)
        data.append({"label": record.id, "mean_representation": mean.squeeze().cpu().tolist()})
    torch.save({"nucleotide": names, "data": data}, output)


def esm_features(fasta: Path, output: Path, files: ReferenceFiles) -> None:
    """Mean over residues of the last layer, as fair-esm's extraction script does it."""
    esm = importlib.import_module("esm")
    model, alphabet = load_fair_esm(files.esm2)
    model.eval()
    dataset = esm.FastaBatchedDataset.from_file(fasta)
    batches = dataset.get_batch_indices(TOKENS_PER_BATCH, extra_toks_per_seq=1)
    loader = torch.utils.data.DataLoader(dataset, collate_fn=alphabet.get_batch_converter(), batch_sampler=batches)
    last = model.num_layers
    names, data = [], []
    with torch.no_grad():
        for labels, strings, tokens in loader:
            hidden = model(tokens, repr_layers=[last], return_contacts=False)["representations"][last]
            for i, label in enumerate(labels):
                length = min(TRUNCATION_LENGTH, len(strings[i]))
                names.append(label)
                data.append(hidden[i, 1 : length + 1].mean(0).clone())
    torch.save({"proteins": names, "data": data}, output)


def load_fair_esm(path: Path) -> tuple[Any, Any]:
    """fair-esm's model and alphabet, as its loader makes them; other inner widths than its own are set up here."""
    esm = importlib.import_module("esm")
    with torch.serialization.safe_globals([argparse.Namespace]):  # fair-esm's files hold their shape as one
        read = torch.load(path, weights_only=True)
    d_ff, d_model = read["model"]["layers.0.fc1.weight"].shape
    if d_ff == 4 * d_model:
        model, alphabet = esm.pretrained.load_model_and_alphabet_core(path.stem, read)
        return model, alphabet
    shape = read["cfg"]["model"]
    alphabet = esm.Alphabet.from_architecture("ESM-1b")
    model = esm.model.esm2.ESM2(shape.encoder_layers, d_model, shape.encoder_attention_heads, alphabet)
    for layer in model.layers:
        layer.fc1, layer.fc2 = torch.nn.Linear(d_model, d_ff), torch.nn.Linear(d_ff, d_model)
    model.load_state_dict(read["model"])
    return model, alphabet


def merge(of_bases: Path, of_residues: Path, output: Path) -> Path:
    """Both means side by side, in the order of the nucleotide file."""
    nucleotide, protein = (torch.load(path, weights_only=True) for path in (of_bases, of_residues))
    bases = {
        name: torch.tensor(row["mean_representation"])
        for name, row in zip(nucleotide["nucleotide"], nucleotide["data"], strict=True)
    }
    residues = dict(zip(protein["proteins"], protein["data"], strict=True))
    names = nucleotide["nucleotide"]
    joined = torch.stack([torch.cat((bases[name], residues[name]), dim=-1) for name in names])
    torch.save({"ids": names, "data": joined}, output)
    return output


class _Merged(torch.utils.data.Dataset[tuple[Tensor, str]]):
    """Rows of the merged files."""

    def __init__(self, files: list[Path]) -> None:
        self.names: list[str] = []
        parts = []
        for file in files:
            read = torch.load(file, weights_only=True)
            self.names.extend(read["ids"])
            parts.append(read["data"])
        self.data = torch.cat(parts)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> tuple[Tensor, str]:
        return self.data[row], self.names[row]


def classify(merged: list[Path], files: ReferenceFiles, output: Path) -> Path:
    """The classifier's label and both probabilities of every frame."""
    model = head_from_tensors(torch.load(files.classifier, weights_only=True), files.classifier)
    rows: list[tuple[str, str, Any]] = []
    with torch.no_grad():
        for features, names in torch.utils.data.DataLoader(_Merged(merged), batch_size=CLASSIFIER_BATCH):
            probabilities = F.softmax(model(features), dim=1)
            labels = ["virus" if label.item() == 1 else "others" for label in torch.max(probabilities, 1)[1]]
            rows.extend(zip(names, labels, probabilities.cpu().numpy(), strict=True))
    with output.open("w") as handle:
        handle.write("Sequence_ID\tPrediction\tscore1\tscore2\n")
        for name, label, probability in rows:
            handle.write(f"{name}\t{label}\t" + "\t".join(map(str, probability)) + "\n")
    return output
