"""One encoder with a head of its own, from packed frames to log-odds, and how two of them become one head.

The encoders are trained apart: trained together, the nucleotide side learns fastest and the protein side, which carries
further over unseen families, is left behind. Their heads are then joined into one (`fused_head`) whose logits are a
weighted sum of both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqassay.engine.embed import pool
from seqassay.models.dnabert import Dnabert, DnabertConfig
from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.head import ClassifierHead
from seqassay.train.frame_batches import FrameBatch, PackedTokens


class SideClassifier(nn.Module):
    """An encoder, pooled as `predict` pools it (nucleotide: all tokens; protein: residues), and a head."""

    def __init__(
        self, config: DnabertConfig | Esm2Config, *, hidden_units: int = 256, encoder: Dnabert | Esm2 | None = None
    ) -> None:
        """Put a head on an encoder: on ``encoder``, which has this configuration, or on one of random weights."""
        super().__init__()
        if encoder is None:
            encoder = Dnabert(config) if isinstance(config, DnabertConfig) else Esm2(config)
        self.encoder = encoder
        self.specials_left_out = 0 if isinstance(config, DnabertConfig) else 1
        self.head = ClassifierHead(config.d_model, hidden_units)

    def forward(self, packed: PackedTokens) -> Tensor:
        """Log-odds of virus ``[F]``, float32, in the order the frames came in."""
        hidden_TD = self.encoder(packed.tokens_T, packed.layout)
        pooled_FD = pool(hidden_TD, packed.layout, left_out=self.specials_left_out)[packed.row_F]
        with torch.autocast(pooled_FD.device.type, enabled=False):
            logits_F2: Tensor = self.head(pooled_FD.float())
        return logits_F2[:, 1] - logits_F2[:, 0]


def masked_token_loss(model: SideClassifier, packed: PackedTokens, share: float, mask_id: int) -> Tensor:
    """Cross-entropy of hidden tokens found again from their neighbours (BERT: Devlin et al. 2019).

    A random share of the tokens between the special ones is replaced by the mask; the encoder's output there is
    compared with the token table itself. Uses torch's global random state, the CPU's on any device. Computed in float32
    but for the encoder.
    """
    encoder = model.encoder
    device = packed.tokens_T.device
    lengths_S = torch.from_numpy(packed.layout.lengths)
    length_T = lengths_S.repeat_interleave(lengths_S).to(device)
    inner_T = (packed.layout.positions_T > 0) & (packed.layout.positions_T < length_T - 1)
    hidden_T = inner_T & (torch.rand(packed.tokens_T.shape) < share).to(device)
    if not hidden_T.any():
        hidden_T = inner_T
    output_TD = encoder(packed.tokens_T.masked_fill(hidden_T, mask_id), packed.layout)
    table_VD = encoder.embeddings.weight if isinstance(encoder, Dnabert) else encoder.embed_tokens.weight
    with torch.autocast(device.type, enabled=False):
        return F.cross_entropy(output_TD[hidden_T].float() @ table_VD.float().T, packed.tokens_T[hidden_T])


def mean_of_chunks(log_odds_F: Tensor, chunk_F: Tensor, n_chunks: int) -> Tensor:
    """Mean log-odds of every chunk's frames ``[N]``; every chunk has at least one."""
    total_N = torch.zeros(n_chunks, dtype=log_odds_F.dtype, device=log_odds_F.device).index_add_(0, chunk_F, log_odds_F)
    return total_N / torch.bincount(chunk_F, minlength=n_chunks)


def loss_of(log_odds_F: Tensor, batch: FrameBatch, *, chunk_share: float) -> Tensor:
    """Binary cross-entropy: of chunks by their mean log-odds, and of frames with a chunk's weight shared among its own.

    Args:
        chunk_share: how much of the loss is the chunks'; the rest is the frames'.
    """
    labels_N = batch.labels_N.float()
    frames_of_chunk = torch.bincount(batch.chunk_F, minlength=batch.n_chunks)
    weight_F = 1.0 / (frames_of_chunk[batch.chunk_F] * batch.n_chunks)
    of_frames = F.binary_cross_entropy_with_logits(log_odds_F, labels_N[batch.chunk_F], weight_F, reduction="sum")
    of_chunks = F.binary_cross_entropy_with_logits(mean_of_chunks(log_odds_F, batch.chunk_F, batch.n_chunks), labels_N)
    return chunk_share * of_chunks + (1 - chunk_share) * of_frames


def fused_head(
    nucleotide: ClassifierHead, protein: ClassifierHead, *, nucleotide_weight: float, protein_weight: float
) -> ClassifierHead:
    """One head on joined embeddings whose logits are the weighted sum of both heads' logits, exactly.

    Its hidden layer is block-diagonal: each side's hidden units see that side's embedding alone.
    """
    d_n, d_p = nucleotide.input_dim, protein.input_dim
    h_n, h_p = nucleotide.hidden_layer.out_features, protein.hidden_layer.out_features
    fused = ClassifierHead(d_n + d_p, h_n + h_p).eval()
    with torch.no_grad():
        fused.hidden_layer.weight.zero_()
        fused.hidden_layer.weight[:h_n, :d_n] = nucleotide.hidden_layer.weight
        fused.hidden_layer.weight[h_n:, d_n:] = protein.hidden_layer.weight
        fused.hidden_layer.bias.copy_(torch.cat([nucleotide.hidden_layer.bias, protein.hidden_layer.bias]))
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(fused.bn1, name).copy_(torch.cat([getattr(side.bn1, name) for side in (nucleotide, protein)]))
        outputs = (nucleotide.output_layer, protein.output_layer)
        weights = (nucleotide_weight, protein_weight)
        fused.output_layer.weight.copy_(torch.cat([w * o.weight for w, o in zip(weights, outputs, strict=True)], dim=1))
        fused.output_layer.bias.copy_(
            torch.stack([w * o.bias for w, o in zip(weights, outputs, strict=True)]).sum(dim=0)
        )
    return fused
