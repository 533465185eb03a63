import numpy as np
import pytest
import torch

from seqassay.engine.embed import pool
from seqassay.engine.tokens import NucleotideTokenizer
from seqassay.models.attention import PackedLayout
from seqassay.models.dnabert import DnabertConfig
from seqassay.models.esm2 import Esm2Config
from seqassay.models.head import ClassifierHead
from seqassay.sequences.ragged import Ragged
from seqassay.train.classifier import SideClassifier, fused_head, loss_of, mean_of_chunks
from seqassay.train.frame_batches import FrameBatch, PackedTokens, make_batch, mask_tokens, mutate_residues, pack
from seqassay.train.kmer_tokenizer import build_kmer_tokenizer

TOKENIZER = NucleotideTokenizer(build_kmer_tokenizer(6).to_str())


NUCLEOTIDE = DnabertConfig(vocab_size=TOKENIZER.vocab_size, d_model=16, n_layers=1, n_heads=2, d_ff=32)
PROTEIN = Esm2Config(n_layers=1, d_model=32, n_heads=2, d_ff=64)
SIDES = [pytest.param(NUCLEOTIDE, TOKENIZER, id="nucleotide"), pytest.param(PROTEIN, None, id="protein")]


def small_model(config: DnabertConfig | Esm2Config) -> SideClassifier:
    torch.manual_seed(0)
    return SideClassifier(config, hidden_units=8).eval()


def batch_of(sequences: list[bytes], tokenizer: NucleotideTokenizer | None, **options: bool) -> FrameBatch:
    made = make_batch(Ragged.from_bytes(sequences), np.array([1, 1, 0][: len(sequences)]), tokenizer, **options)
    assert made is not None
    return made[0]


# The second has a stop in every frame of both strands, the first in one of them, the third in none.
SEQUENCES = [b"ATGTAAATGGCCGCA", b"TAATTAATTAATTAATTAACTAACTAA", b"GCCGCCGCCGCCGCCGCCGCC"]


@pytest.mark.parametrize(("tokenizer", "options"), [(None, {}), (TOKENIZER, {"open_frames_only": True})])
def test_chunks_without_an_open_frame_are_left_out(tokenizer: NucleotideTokenizer | None, options: dict) -> None:
    made = make_batch(Ragged.from_bytes(SEQUENCES), np.array([1, 1, 0]), tokenizer, **options)
    assert made is not None
    batch, kept = made
    assert kept.tolist() == [0, 2]
    assert batch.n_chunks == 2
    assert batch.labels_N.tolist() == [1, 0]
    assert sorted(set(batch.chunk_F.tolist())) == [0, 1]
    assert make_batch(Ragged.from_bytes(SEQUENCES[1:2]), np.array([1]), tokenizer, **options) is None


def test_a_nucleotide_encoder_reads_all_six_frames() -> None:
    assert torch.bincount(batch_of(SEQUENCES, TOKENIZER).chunk_F).tolist() == [6, 6, 6]
    assert make_batch(Ragged.from_bytes([b"AC"]), np.array([1]), TOKENIZER) is None


@pytest.mark.parametrize(("config", "tokenizer"), SIDES)
def test_log_odds_do_not_depend_on_the_batch(
    config: DnabertConfig | Esm2Config, tokenizer: NucleotideTokenizer | None
) -> None:
    model = small_model(config)
    together = batch_of(SEQUENCES, tokenizer)
    with torch.inference_mode():
        log_odds = model(together.packed)
        for i, sequence in zip(range(together.n_chunks), (SEQUENCES[0], SEQUENCES[2]), strict=False):
            if tokenizer is not None and i == 1:
                continue  # chunk 1 is another sequence there
            alone = batch_of([sequence], tokenizer)
            torch.testing.assert_close(model(alone.packed), log_odds[together.chunk_F == i], atol=1e-5, rtol=0)


def test_packing_keeps_the_way_back() -> None:
    rows = [[1, 5, 2], [1, 2], [1, 6, 7, 2], [1, 8, 2]]
    packed = pack(Ragged.from_lengths(np.concatenate(rows).astype(np.int32), np.array([len(r) for r in rows])))
    assert packed.tokens_T.tolist() == [1, 2, 1, 5, 2, 1, 8, 2, 1, 6, 7, 2]
    hidden = packed.tokens_T[:, None].double()
    means = pool(hidden, packed.layout, left_out=0)[packed.row_F, 0]
    assert means.tolist() == pytest.approx([8 / 3, 1.5, 4, 11 / 3])
    inner = [r[1:-1] for r in rows if len(r) > 2]
    longer = pack(Ragged.from_lengths(np.concatenate([r for r in rows if len(r) > 2]), np.array([3, 4, 3])))
    means = pool(longer.tokens_T[:, None].double(), longer.layout, left_out=1)[longer.row_F, 0]
    assert means.tolist() == pytest.approx([float(np.mean(r)) for r in inner])


def test_the_mean_of_chunks() -> None:
    assert mean_of_chunks(torch.tensor([1.0, 3.0, -2.0]), torch.tensor([1, 1, 0]), 2).tolist() == [-2.0, 2.0]


@pytest.mark.parametrize("chunk_share", [0.0, 0.5, 1.0])
def test_losses_weigh_chunks_not_frames(chunk_share: float) -> None:
    batch = batch_of(SEQUENCES, None)
    n_frames = torch.bincount(batch.chunk_F)
    assert n_frames[0] != n_frames[1]
    sure = torch.full((len(batch.chunk_F),), 20.0)  # all virus: right for chunk 0, wrong for chunk 1
    assert float(loss_of(sure, batch, chunk_share=chunk_share)) == pytest.approx(10, abs=1e-3)


@pytest.mark.parametrize(("config", "tokenizer"), SIDES)
def test_gradients_reach_every_parameter_but_only_the_rows_used(
    config: DnabertConfig | Esm2Config, tokenizer: NucleotideTokenizer | None
) -> None:
    model = small_model(config).train()
    batch = batch_of(SEQUENCES, tokenizer)
    loss_of(model(batch.packed), batch, chunk_share=0.5).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    table = model.encoder.embeddings if tokenizer is not None else model.encoder.embed_tokens
    rows = torch.nonzero(table.weight.grad.abs().sum(1)).flatten().tolist()
    assert set(rows) <= set(torch.unique(batch.packed.tokens_T).tolist())


def test_the_fused_head_is_the_weighted_sum_of_both() -> None:
    torch.manual_seed(2)
    sides = []
    for width, hidden in ((16, 8), (32, 12)):
        head = ClassifierHead(width, hidden)
        head.train()
        head(torch.randn(50, width) * 2 + 1)  # running statistics of its own
        sides.append(head.eval())
    a, b = torch.randn(7, 16), torch.randn(7, 32)
    fused = fused_head(*sides, nucleotide_weight=0.7, protein_weight=1.9)
    expected = 0.7 * sides[0](a) + 1.9 * sides[1](b)
    torch.testing.assert_close(fused(torch.cat([a, b], dim=1)), expected, atol=1e-5, rtol=1e-5)


def test_residues_are_exchanged_by_the_odds_of_evolution() -> None:
    pytest.importorskip("Bio", reason="BLOSUM62 comes with Biopython")
    n, isoleucine, valine, tryptophan = 40_000, 12, 7, 22
    tokens = np.full(n, isoleucine, np.int64)
    tokens[[0, -1]] = 0, 2
    packed = PackedTokens(torch.from_numpy(tokens), PackedLayout.from_lengths(np.array([n])), torch.zeros(1))
    mutated = mutate_residues(packed, 0.5, np.random.default_rng(4)).tokens_T.numpy()
    changed = mutated[mutated != tokens]
    assert 0 < len(changed) < 0.5 * n
    assert mutated[[0, -1]].tolist() == [0, 2]
    assert set(changed.tolist()) <= set(range(4, 24))
    # BLOSUM62 in half bits: I–V 3, I–W -3, so 8 times as often
    counts = np.bincount(changed, minlength=33)
    assert counts[valine] / counts[tryptophan] == pytest.approx(8, rel=0.3)
    assert (packed.tokens_T.numpy() == tokens).all()


def test_masking_hides_about_the_share_asked_for() -> None:
    tokens = torch.full((20_000,), 7)
    packed = PackedTokens(tokens, PackedLayout.from_lengths(np.array([20_000]), torch.device("cpu")), torch.zeros(1))
    torch.manual_seed(0)
    hidden = mask_tokens(packed, 0.1, 4).tokens_T == 4
    assert 0.08 < float(hidden.double().mean()) < 0.12
    assert mask_tokens(packed, 0.0, 4) is packed
