"""Train a small encoder and its head end to end, on labelled chunks.

Choices, with their reasons (trials in docs/models/mini.md):

- The example is a chunk: its frames are scored, and the loss is half their cross-entropy, half that of their mean
  log-odds. Most stop-free frames are not the coding one and say little; in the mean, a frame counts by how sure it is.
- Groups have weights, so that neither bacteria nor plant viruses fill the training set.
- A running average of the weights is what is evaluated and kept: steps are few and noisy.
- Token tables learn faster (own rate) and words are dropped at random: rows of rare words see few steps.
- Made-up sequences can be among the others: without any, shuffled and random ones are often called viral.
- Bases and residues are exchanged at random, residues as evolution does it: what is to be found is not in the data.
- Everything random comes from (seed, step): an interrupted run goes on from its checkpoint as if it had not stopped.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from seqassay.engine.precision import resolve
from seqassay.engine.tokens import NucleotideTokenizer
from seqassay.errors import ModelError
from seqassay.evaluate.classification import roc_auc
from seqassay.models.dnabert import DnabertConfig
from seqassay.models.esm2 import Esm2Config
from seqassay.models.linear import count_steps
from seqassay.sequences.ragged import Ragged
from seqassay.train.classifier import SideClassifier, loss_of, masked_token_loss
from seqassay.train.dataset import ChunkSampler, LabelledChunks, LabelledRecords, evaluation_chunks
from seqassay.train.encoder_checkpoint import copy_of_learnt, learnt_names, load_state, save_state
from seqassay.train.frame_batches import FrameBatch, make_batch, mask_tokens, mutate_residues
from seqassay.train.kmer_tokenizer import MASK_ID
from seqassay.train.made_up import KIND_SHARES, made_up
from seqassay.train.scoring import group_balanced_auc, score_chunks

log = logging.getLogger(__name__)

ESM_MASK_ID = 32
_PRETRAINING_VALID_CHUNKS = 512  # of each length
MINI_GROUP_WEIGHTS = {
    "virus": 0.34, "phage": 0.13, "metagenome_viral": 0.03,
    "bacteria": 0.10, "archaea": 0.05, "fungi": 0.04, "human": 0.05, "invertebrate": 0.08, "metagenome_other": 0.06,
    "organelle": 0.02, "plant": 0.02, "protozoa": 0.03, "vertebrate": 0.05,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the trained weights, besides the data and the machine's arithmetic."""

    encoder: DnabertConfig | Esm2Config
    objective: Literal["labels", "masked tokens"] = "labels"  # masked tokens: pre-training, labels are not looked at
    seed: int = 1
    steps: int = 12_000
    max_minutes: float = 1e9  # the schedule ends at ``steps`` or at this time, whichever its pace reaches first
    bases_per_step: int = 30_000
    lengths: tuple[int, ...] = (100, 150, 150, 200, 250, 300, 300, 400, 500)  # bases; every step draws three of them
    group_weights: dict[str, float] = field(default_factory=lambda: dict(MINI_GROUP_WEIGHTS))
    length_power: float = 0.5
    learning_rate: float = 1.5e-3
    table_learning_rate: float = 5e-3
    weight_decay: float = 0.05
    table_weight_decay: float = 0.01
    warmup_steps: int = 100
    token_dropout: float = 0.1  # tokens hidden; with masked tokens as objective 0.15 are, and are to be found
    base_substitution_rate: float = 0.01  # bases exchanged at random; each chunk draws its own rate up to this one
    residue_mutation_rate: float = 0.0  # residues exchanged by BLOSUM62; each frame draws its own rate up to this one
    made_up_share: float = 0.0  # of the chunks: made-up sequences among the others
    chunk_loss_share: float = 0.5
    average_decay: float = 0.998
    precision: Literal["bf16", "float32"] = "bf16"  # autocast of the matrix products while training
    evaluate_every_steps: int = 400
    evaluation_lengths: tuple[int, ...] = (150, 300)

    @property
    def reads_nucleotides(self) -> bool:
        """Whether the encoder is a nucleotide model, which reads all six frames."""
        return isinstance(self.encoder, DnabertConfig)


# Shapes of `mini`'s encoders, chosen by accuracy against speed on two cores.
MINI_NUCLEOTIDE = Recipe(encoder=DnabertConfig(vocab_size=4425, d_model=128, n_layers=1, n_heads=2, d_ff=256))
MINI_PROTEIN = Recipe(
    encoder=Esm2Config(n_layers=3, d_model=128, n_heads=4, d_ff=384), bases_per_step=45_000, residue_mutation_rate=0.2
)
# A second training, from the best state of the first: sequences that no organism has are others, too. The nucleotide
# side's alone: made-up sequences of 300 bases hardly have a stop-free frame for the protein side to read, and those of
# 150 cost it 0.02 of ROC-AUC on real ones for no gain that was seen.
_FINISH: dict[str, Any] = {
    "learning_rate": 1e-3,
    "table_learning_rate": 3e-3,
    "made_up_share": 0.25,
}
PRETRAINING: dict[str, Any] = {
    "objective": "masked tokens",
    "token_dropout": 0.15,
    "residue_mutation_rate": 0.0,
    "base_substitution_rate": 0.0,
}
MINI_NUCLEOTIDE_FINISH = replace(MINI_NUCLEOTIDE, **_FINISH)


@dataclass(slots=True)
class Progress:
    """Where a run stands; kept in its checkpoint."""

    step: int = 0
    seconds: float = 0.0
    best_figure: float = -math.inf
    best_step: int = -1


class EncoderTrainer:
    """One training run in one folder: ``checkpoint.pt`` to go on from, ``best.pt``, and ``history.jsonl``.

    On a CPU the same recipe and data end in the same weights, bit for bit. On a CUDA device batches, masks and first
    weights are the same as on the CPU, but sums of gradients come in any order: the last bits differ from run to run.
    Checkpoints of one device go on on any other.
    """

    def __init__(
        self,
        recipe: Recipe,
        train_records: LabelledRecords,
        valid_records: LabelledRecords,
        tokenizer: NucleotideTokenizer | None,
        folder: Path,
        *,
        begin_with: SideClassifier | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            tokenizer: the nucleotide encoder's; None for a protein encoder.
            begin_with: weights to begin with, of the recipe's shape; None: random ones.
            device: where to train and evaluate; the CPU by default.

        Raises:
            UsageError: a device without the recipe's number format; records that cannot be drawn from.
        """
        if recipe.reads_nucleotides != (tokenizer is not None):
            raise ValueError("a nucleotide encoder needs its tokenizer, a protein encoder has none")
        self.device = device or torch.device("cpu")
        resolve(self.device, recipe.precision)
        torch.manual_seed(recipe.seed)
        self.recipe, self.tokenizer, self.folder = recipe, tokenizer, folder
        self.sampler = ChunkSampler(train_records, recipe.group_weights, length_power=recipe.length_power)
        self.valid_records = valid_records
        self.valid_chunks = {
            length: evaluation_chunks(valid_records, length, seed=recipe.seed, max_per_record=1)
            for length in recipe.evaluation_lengths
        }
        self.mask_id = MASK_ID if recipe.reads_nucleotides else ESM_MASK_ID
        self.model = self._first_model(begin_with).to(self.device)
        self.learnt_names = learnt_names(self.model)
        self.average = copy_of_learnt(self.model)
        self.optimizer = self._optimizer()
        count_steps(self.optimizer)
        self.progress = Progress()
        folder.mkdir(parents=True, exist_ok=True)

    def _first_model(self, begin_with: SideClassifier | None) -> SideClassifier:
        """The model before the first step, on the CPU, so that its random numbers are the same on any device."""
        model = SideClassifier(self.recipe.encoder)
        initialise(model)
        if begin_with is not None:
            model.load_state_dict(begin_with.state_dict())
        return model

    def _optimizer(self) -> torch.optim.AdamW:
        return _optimizer(self.model, self.recipe)

    def run(self) -> SideClassifier:
        """Train from wherever the folder's checkpoint stands; the state with the best validation figure, restored."""
        self._resume()
        started = time.monotonic() - self.progress.seconds
        losses: list[float] = []
        for batch in self._batches():
            self.progress.seconds = time.monotonic() - started
            if self._done_share() >= 1:
                break
            losses.append(self._step(batch))
            self.progress.step += 1
            if self.progress.step % self.recipe.evaluate_every_steps == 0:
                self._evaluate_and_save(float(np.mean(losses)))
                losses.clear()
        if losses or self.progress.best_step < 0:
            self._evaluate_and_save(float(np.mean(losses)) if losses else math.nan)
        return self.best()

    def best(self) -> SideClassifier:
        """The state with the best validation figure so far, read back from the folder into a model of its own."""
        return read_best(self.folder, self.recipe.encoder)

    def draw_batch(self, step: int) -> FrameBatch:
        """The batch of one step, a function of the recipe's seed and the step alone."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step])
        lengths = rng.choice(np.array(recipe.lengths), 3)
        parts = [self.sampler.draw(recipe.bases_per_step // (3 * length), length, rng) for length in lengths.tolist()]
        chunks = _join([with_made_up(part, recipe.made_up_share, rng) for part in parts])
        if recipe.base_substitution_rate:
            chunks = substitute(chunks, recipe.base_substitution_rate, rng)
        made = make_batch(chunks.bases, chunks.labels, self.tokenizer)
        if made is None:
            raise ModelError(f"step {step}: none of {len(chunks)} chunks has a stop-free frame", hint="use more bases")
        batch = made[0]
        if not recipe.reads_nucleotides and recipe.residue_mutation_rate:
            batch = replace(batch, packed=mutate_residues(batch.packed, recipe.residue_mutation_rate, rng))
        return batch

    def _batches(self) -> Iterator[FrameBatch]:
        """Batches from the current step on; the next is prepared while one is used."""
        with ThreadPoolExecutor(1) as worker:
            step = self.progress.step
            coming = worker.submit(self.draw_batch, step)
            while step < self.recipe.steps:
                batch, step = coming.result(), step + 1
                coming = worker.submit(self.draw_batch, step)
                yield batch

    def _done_share(self) -> float:
        return max(self.progress.step / self.recipe.steps, self.progress.seconds / 60 / self.recipe.max_minutes)

    def _step(self, batch: FrameBatch) -> float:
        recipe, step = self.recipe, self.progress.step
        torch.manual_seed((recipe.seed << 32) + step)
        scale = min(1.0, (step + 1) / recipe.warmup_steps) * (
            0.01 + 0.99 * (1 + math.cos(math.pi * self._done_share())) / 2
        )
        for group in self.optimizer.param_groups:
            group["lr"] = scale * group["top_lr"]
        autocast = torch.autocast(self.device.type, torch.bfloat16) if recipe.precision == "bf16" else nullcontext()
        # The flash kernel's backward pass is 2–3 times slower than plain matrix products at these sizes on a CPU.
        kernels = sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext()
        with autocast, kernels:
            loss = self._loss(batch.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self._update_average()
        return float(loss.detach())

    def _loss(self, batch: FrameBatch) -> Tensor:
        recipe = self.recipe
        if recipe.objective == "masked tokens":
            return masked_token_loss(self.model, batch.packed, recipe.token_dropout, self.mask_id)
        masked = mask_tokens(batch.packed, recipe.token_dropout, self.mask_id)
        return loss_of(self.model(masked), batch, chunk_share=recipe.chunk_loss_share)

    @torch.no_grad()
    def _update_average(self) -> None:
        step = self.progress.step
        decay = min(self.recipe.average_decay, (1 + step) / (10 + step))
        means, currents = self.average.state_dict(), self.model.state_dict()
        for mean, current in ((means[name], currents[name]) for name in self.learnt_names):
            if mean.dtype.is_floating_point:
                mean.lerp_(current, 1 - decay)
            else:
                mean.copy_(current)

    def evaluate(self, model: SideClassifier) -> dict[str, float]:
        """Validation figures at every evaluation length, and the one that chooses among states (higher is better).

        ``auc_LENGTH``, ``balanced_auc_LENGTH`` and, where made-up sequences are in the training, ``made_up_auc_LENGTH``
        (viral chunks against made-up ones), and their mean; or ``masked_token_loss_LENGTH`` and minus its mean.
        """
        if self.recipe.objective == "masked tokens":
            return self._evaluate_masked(model)
        figures: dict[str, float] = {}
        for length, chunks in self.valid_chunks.items():
            scores = score_chunks(model, chunks, self.tokenizer)
            known = ~np.isnan(scores)
            labels, groups = chunks.labels[known], self.valid_records.groups[chunks.record[known]]
            figures[f"auc_{length}"] = roc_auc(labels, scores[known])
            weights = self.recipe.group_weights
            figures[f"balanced_auc_{length}"] = group_balanced_auc(labels, scores[known], groups, weights)
            if self.recipe.made_up_share:
                figures[f"made_up_auc_{length}"] = self._made_up_auc(model, chunks, scores)
        return {"selection": float(np.nanmean(list(figures.values()))), **figures}

    def _made_up_auc(self, model: SideClassifier, chunks: LabelledChunks, scores: npt.NDArray[np.float64]) -> float:
        """How well viral chunks are told from made-up ones, the same ones every time."""
        made = with_made_up(chunks, 1.0, np.random.default_rng([self.recipe.seed, 0]))
        made_scores = score_chunks(model, made.take(np.arange(0, len(made), 2)), self.tokenizer)
        compared = np.concatenate([scores[chunks.labels == 1], made_scores])
        known = ~np.isnan(compared)
        return roc_auc((np.arange(len(compared)) < (chunks.labels == 1).sum()).astype(np.int64)[known], compared[known])

    def _evaluate_masked(self, model: SideClassifier) -> dict[str, float]:
        """Loss on masked tokens of the first validation chunks, the same ones masked every time."""
        figures: dict[str, float] = {}
        for length, chunks in self.valid_chunks.items():
            few = chunks.take(np.arange(min(len(chunks), _PRETRAINING_VALID_CHUNKS)))
            made = make_batch(few.bases, few.labels, self.tokenizer)
            if made is None:
                raise ModelError(
                    f"no validation chunk of {length} bases has a stop-free frame", hint="use more records"
                )
            with torch.inference_mode(), torch.random.fork_rng():
                torch.manual_seed(length)
                packed = made[0].packed.to(next(model.parameters()).device)
                loss = masked_token_loss(model.eval(), packed, self.recipe.token_dropout, self.mask_id)
            figures[f"masked_token_loss_{length}"] = float(loss)
        return {"selection": -float(np.mean(list(figures.values()))), **figures}

    def _evaluate_and_save(self, loss: float) -> None:
        figures = self.evaluate(self.average)
        progress = self.progress
        if figures["selection"] > progress.best_figure:
            progress.best_figure, progress.best_step = figures["selection"], progress.step
            save_state({"model": self._learnt(self.average), "step": progress.step}, self.folder / "best.pt")
        state = {
            "model": self._learnt(self.model),
            "average": self._learnt(self.average),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(progress),
            "recipe": recipe_json(self.recipe),
        }
        save_state(state, self.folder / "checkpoint.pt")
        row = {"step": progress.step, "seconds": round(progress.seconds, 1), "loss": loss, **figures}
        said = {name: None if math.isnan(value) else value for name, value in row.items()}  # JSON has no NaN
        with (self.folder / "history.jsonl").open("a", encoding="utf-8") as history:
            history.write(json.dumps(said, allow_nan=False) + "\n")
        shown = " ".join(f"{name} {_figure(value)}" for name, value in figures.items())
        log.info("step %d, %.0f s, loss %s, %s", progress.step, progress.seconds, _figure(loss), shown)

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = load_state(path)
        if state["recipe"] != recipe_json(self.recipe):
            there, here = json.loads(state["recipe"]), json.loads(recipe_json(self.recipe))
            differing = [
                f"{name} is {_shown(there.get(name))} there, {_shown(here.get(name))} here"
                for name in sorted({*there, *here})
                if there.get(name) != here.get(name)
            ]
            raise ModelError(
                f"{path} belongs to another recipe: {'; '.join(differing)}",
                hint="use the same settings or another folder",
            )
        self._load_learnt(self.model, state["model"])
        self._load_learnt(self.average, state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        log.info("going on from step %d of %s", self.progress.step, path)

    def _learnt(self, model: SideClassifier) -> dict[str, Tensor]:
        """What training changes, and so what checkpoints hold."""
        state = model.state_dict()
        return {name: state[name] for name in self.learnt_names}

    def _load_learnt(self, model: SideClassifier, state: Mapping[str, Tensor]) -> None:
        if odd := sorted(set(state) ^ set(self.learnt_names)):
            raise ModelError(f"{self.folder}: a checkpoint and its recipe do not fit: {odd[0]} is in one of them alone")
        model.load_state_dict(state, strict=False)  # frozen parameters stay as they are


def read_best(folder: Path, encoder: DnabertConfig | Esm2Config) -> SideClassifier:
    """The best state that a run in ``folder`` has reached, in ``eval`` mode.

    Raises:
        ModelError: there is none yet.
    """
    path = folder / "best.pt"
    if not path.exists():
        raise ModelError(f"{path}: no state was saved yet", hint="train for at least one evaluation")
    best = SideClassifier(encoder)
    best.load_state_dict(load_state(path)["model"])
    return best.eval()


def initialise_linear(module: nn.Module) -> None:
    """Small normal weights and zero biases in all linear layers."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=part.in_features**-0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def initialise(model: SideClassifier) -> None:
    """Small normal weights, zero biases, and token tables of N(0, 0.3)."""
    initialise_linear(model)
    for table in _tables(model).values():
        nn.init.normal_(table, std=0.3)


def substitute(chunks: LabelledChunks, max_rate: float, rng: np.random.Generator) -> LabelledChunks:
    """Replace bases at random, as sequencing errors and mutations do; each chunk at its own rate up to ``max_rate``."""
    rate = np.repeat(max_rate * rng.random(len(chunks)), chunks.bases.lengths)
    hit = rng.random(len(rate)) < rate
    letters = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, len(rate))]
    values = np.where(hit, letters, chunks.bases.values)
    return LabelledChunks(chunks.record, chunks.labels, Ragged(values, chunks.bases.offsets))


def with_made_up(chunks: LabelledChunks, share: float, rng: np.random.Generator) -> LabelledChunks:
    """Chunks of one length with a share of them replaced by made-up ones, which are labelled others."""
    if not share:
        return chunks
    table_NL = chunks.bases.values.reshape(len(chunks), -1).astype(np.uint8)
    labels = chunks.labels.copy()
    ends = np.round(np.cumsum(list(KIND_SHARES.values())) * share * len(chunks)).astype(np.int64)
    chosen = rng.permutation(len(chunks))
    for kind, rows in zip(KIND_SHARES, np.split(chosen, ends), strict=False):  # the last part stays as it is
        if len(rows):
            table_NL[rows] = made_up(kind, table_NL[rows], rng)
    labels[chosen[: ends[-1]]] = 0
    return LabelledChunks(chunks.record, labels, Ragged(table_NL.reshape(-1), chunks.bases.offsets))


def _figure(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def _shown(value: object, limit: int = 70) -> str:
    text = json.dumps(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def recipe_json(recipe: Recipe) -> str:
    """The recipe as canonical JSON: kept in checkpoints and in the bundle's record."""
    return json.dumps(asdict(recipe), sort_keys=True)


def _join(parts: list[LabelledChunks]) -> LabelledChunks:
    lengths = np.concatenate([part.bases.lengths for part in parts])
    return LabelledChunks(
        np.concatenate([part.record for part in parts]),
        np.concatenate([part.labels for part in parts]),
        Ragged.from_lengths(np.concatenate([part.bases.values for part in parts]), lengths),
    )


def _tables(model: SideClassifier) -> dict[str, Tensor]:
    names = ("encoder.embeddings.weight", "encoder.embed_tokens.weight")
    return {name: parameter for name, parameter in model.named_parameters() if name in names}


def _optimizer(model: SideClassifier, recipe: Recipe) -> torch.optim.AdamW:
    tables = _tables(model)
    others = [p for name, p in model.named_parameters() if name not in tables]
    groups = [
        {
            "params": list(tables.values()),
            "top_lr": recipe.table_learning_rate,
            "weight_decay": recipe.table_weight_decay,
        },
        {
            "params": [p for p in others if p.ndim > 1],
            "top_lr": recipe.learning_rate,
            "weight_decay": recipe.weight_decay,
        },
        {"params": [p for p in others if p.ndim < 2], "top_lr": recipe.learning_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)


def default_group_weights(records: LabelledRecords) -> dict[str, float]:
    """Half for each label; within it, groups by the square root of their bases."""
    weights: dict[str, float] = {}
    for label in (0, 1):
        of_label = records.labels == label
        groups, inverse = np.unique(records.groups[of_label], return_inverse=True)
        share = np.sqrt(np.bincount(inverse, weights=records.bases.lengths[of_label], minlength=len(groups)))
        for group, value in zip(groups.tolist(), (0.5 * share / share.sum()).tolist(), strict=True):
            weights[group] = weights.get(group, 0.0) + value
    return weights
