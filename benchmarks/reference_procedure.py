"""VirNucPro's prediction, step by step as its authors run it on a CPU: what `end_to_end.py` compares `predict` with.

Every step leaves files that the next one reads: chunks; the stop-free frames' bases and residues; these in files of
10,000 sequences; for each file DNABERT-S's means (transformers tokenizer, one sequence at a time) and ESM-2's
(fair-esm, 2,048 tokens a batch); both merged; the classifier in batches of 256; a table. ``UnpaddingDnabert`` takes the
published model's path, which gathers the positions that are not padding, spreads them out for attention in every layer
and gathers them again, and ends in a pooler. Left out, in the reference's favour: progress bars, prints, and the four
loader processes of the last step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from Bio import SeqIO
from Bio.SeqRecord import SeqRecord
from torch import Tensor, nn

from reference_models import alibi_slopes
from seqassay.models.head import ClassifierHead

SEQUENCES_PER_FILE = 10_000
TOKENS_PER_BATCH = 2048
CLASSIFIER_BATCH = 256
TRUNCATION_LENGTH = 1024
_BASES = "TCAG"
_CODONS = [a + b + c for a in _BASES for b in _BASES for c in _BASES]
_CODE = dict(zip(_CODONS, "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG", strict=True))
_COMPLEMENT = str.maketrans("ACGTacgt", "TGCAtgca")


@dataclass(frozen=True)
class ReferenceFiles:
    """What the procedure loads: published layouts, and the classifier as a whole module."""

    dnabert: Path
    tokenizer: Path
    dnabert_heads: int
    esm2: Path
    classifier: Path


def run_reference(fasta: Path, files: ReferenceFiles, folder: Path, *, chunk_length: int) -> Path:
    """The whole procedure in a folder of its own; the table it ends in."""
    chunks = folder / "chunks.fa"
    write_chunks(fasta, chunks, chunk_length)
    nucleotide, protein = folder / "nucleotide.fa", folder / "protein.faa"
    write_frames(chunks, nucleotide, protein)
    merged = []
    for bases, residues in zip(split_file(nucleotide), split_file(protein), strict=True):
        of_bases, of_residues = bases.with_suffix(".dnabert.pt"), residues.with_suffix(".esm.pt")
        dnabert_features(bases, of_bases, files)
        esm_features(residues, of_residues, files)
        merged.append(merge(of_bases, of_residues, bases.with_suffix(".merged.pt")))
    return classify(merged, files, folder / "prediction_results.txt")


def write_chunks(fasta: Path, output: Path, chunk_length: int) -> None:
    """Chunks of every record; a record that is no longer than a chunk is one."""
    with output.open("w") as handle:
        for record in SeqIO.parse(fasta, "fasta"):
            if len(record.seq) > chunk_length:
                raise ValueError("this statement of the procedure takes records of one chunk")
            chunk = record[0:chunk_length]
            chunk.id, chunk.description = f"{record.id}_chunk_1", ""
            SeqIO.write(chunk, handle, "fasta")


def write_frames(chunks: Path, nucleotide: Path, protein: Path) -> None:
    """Bases and residues of the frames without a stop."""
    with nucleotide.open("w") as bases_out, protein.open("w") as residues_out:
        for record in list(SeqIO.parse(chunks, "fasta")):
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
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(files.tokenizer))
    model = UnpaddingDnabert(torch.load(files.dnabert, weights_only=True), n_heads=files.dnabert_heads).eval()
    names, data = [], []
    for record in list(SeqIO.parse(fasta, "fasta")):
        inputs = tokenizer(str(record.seq), return_tensors="pt")
        with torch.no_grad():
            mean = model(inputs["input_ids"])[0].mean(dim=1)
        names.append(record.id)
        data.append({"label": record.id, "mean_representation": mean.squeeze().cpu().tolist()})
    torch.save({"nucleotide": names, "data": data}, output)


def esm_features(fasta: Path, output: Path, files: ReferenceFiles) -> None:
    """Mean over residues of the last layer, as fair-esm's extraction script does it."""
    from esm import FastaBatchedDataset, pretrained

    read = torch.load(files.esm2, weights_only=False)  # as fair-esm reads its files, which hold a Namespace
    model, alphabet = pretrained.load_model_and_alphabet_core(files.esm2.stem, read)
    model.eval()
    dataset = FastaBatchedDataset.from_file(fasta)
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
    model: ClassifierHead = torch.load(files.classifier, weights_only=False)
    model.eval()
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


class UnpaddingDnabert(nn.Module):
    """DNABERT-S along the published model's path (MosaicBERT's unpadding), from a state dict of its names.

    ``forward(ids[B, L])`` gives the hidden states ``[B, L, D]`` and the pooled first position ``[B, D]``.
    """

    def __init__(self, state: dict[str, Tensor], *, n_heads: int, eps: float = 1e-12, longest: int = 512) -> None:
        super().__init__()
        d_model = state["embeddings.word_embeddings.weight"].shape[1]
        n_layers = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer."))
        self.word_embeddings = _embedding(state, "embeddings.word_embeddings")
        self.token_type_embeddings = _embedding(state, "embeddings.token_type_embeddings")
        self.norm = _norm(state, "embeddings.LayerNorm", eps)
        self.layers = nn.ModuleList(_Layer(state, f"encoder.layer.{n}", n_heads, eps) for n in range(n_layers))
        self.pooler = nn.Linear(d_model, d_model)
        place = torch.arange(longest)
        distance = (place[None, :] - place[:, None]).abs()
        slopes = torch.tensor(alibi_slopes(n_heads))
        self.register_buffer("alibi", (slopes[:, None, None] * -distance)[None])
        self.register_buffer("token_types", torch.zeros(1, longest, dtype=torch.long))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        batch, length = ids.shape
        mask = torch.ones_like(ids)
        x = self.word_embeddings(ids) + self.token_type_embeddings(self.token_types[:, :length].expand(batch, length))
        x = self.norm(x)
        added = (1.0 - mask[:, None, None].to(x.dtype)) * -10000.0
        x, places, longest = _unpad(x, mask.bool())
        bias = added[..., :longest] + self.alibi[..., :longest, :longest]
        for layer in self.layers:
            x = layer(x, places, mask, longest, bias)
        x = _pad(x, places, batch, length)
        return x, torch.tanh(self.pooler(x[:, 0]))


class _Layer(nn.Module):
    def __init__(self, state: dict[str, Tensor], name: str, n_heads: int, eps: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = _linear(state, f"{name}.attention.self.Wqkv")
        self.dense = _linear(state, f"{name}.attention.output.dense")
        self.attention_norm = _norm(state, f"{name}.attention.output.LayerNorm", eps)
        self.gated = _linear(state, f"{name}.mlp.gated_layers")
        self.out = _linear(state, f"{name}.mlp.wo")
        self.norm = _norm(state, f"{name}.mlp.layernorm", eps)

    def forward(self, x: Tensor, places: Tensor, mask: Tensor, longest: int, bias: Tensor) -> Tensor:
        qkv = _pad(self.qkv(x), places, len(mask), longest)
        qkv = qkv.view(len(mask), longest, 3, self.n_heads, -1)
        q, k, v = qkv[:, :, 0].permute(0, 2, 1, 3), qkv[:, :, 1].permute(0, 2, 3, 1), qkv[:, :, 2].permute(0, 2, 1, 3)
        probabilities = F.softmax(torch.matmul(q, k) / math.sqrt(q.shape[-1]) + bias, dim=-1)
        mixed, _, _ = _unpad(torch.matmul(probabilities, v).permute(0, 2, 1, 3), mask == 1)
        x = self.attention_norm(self.dense(mixed.flatten(1)) + x)
        gated = self.gated(x)
        half = gated.shape[-1] // 2
        return self.norm(self.out(F.gelu(gated[:, :half]) * gated[:, half:]) + x)


def _unpad(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, int]:
    """Positions in use end to end, where they were, and the longest sequence."""
    lengths = mask.sum(dim=-1, dtype=torch.int32)
    places = torch.nonzero(mask.flatten(), as_tuple=False).flatten()
    flat = x.flatten(0, 1)
    index = places.view(-1, *[1] * (flat.ndim - 1)).expand(-1, *flat.shape[1:])
    return torch.gather(flat, 0, index), places, int(lengths.max().item())


def _pad(x: Tensor, places: Tensor, batch: int, length: int) -> Tensor:
    spread = torch.zeros(batch * length, *x.shape[1:], dtype=x.dtype)
    spread[places] = x
    return spread.view(batch, length, *x.shape[1:])


def _linear(state: dict[str, Tensor], name: str) -> nn.Linear:
    weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return layer


def _norm(state: dict[str, Tensor], name: str, eps: float) -> nn.LayerNorm:
    norm = nn.LayerNorm(len(state[f"{name}.weight"]), eps=eps)
    norm.load_state_dict({"weight": state[f"{name}.weight"], "bias": state[f"{name}.bias"]})
    return norm


def _embedding(state: dict[str, Tensor], name: str) -> nn.Embedding:
    return nn.Embedding.from_pretrained(state[f"{name}.weight"])
