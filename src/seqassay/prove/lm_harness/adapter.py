"""Our language models as lm-evaluation-harness has them (`lm_eval.api.model.LM`): three ways to ask.

What is asked, truncated and counted follows the harness's own Hugging Face back end word for word: a prompt and its
continuation are tokenised together, white space at a prompt's end goes to the continuation, and what does not fit goes
from the left. Prompts that are asked about several times in one call are read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from seqassay.engine.generate import Decoding, generate
from seqassay.errors import InputError, UsageError
from seqassay.evaluate.continuations import batches_of_questions, score_questions
from seqassay.evaluate.smallbench import cut_to_context
from seqassay.measure.progress import RunProgress
from seqassay.prove.lm.inputs import Checkpoint
from seqassay.prove.lm_harness.responses import Responses

_MAX_NEW_TOKENS = 256  # where a task does not say: the harness's default
Answer = tuple[float, bool, int]  # log-probability, greedy or not, tokens of the prompt that were left out
Pair = tuple[tuple[str, str] | None, Sequence[int], Sequence[int]]  # what was asked as text; prompt; continuation


class SeqassayLM(TemplateLM):  # type: ignore[misc]  # lm_eval has no types
    """A checkpoint that the harness asks.

    Attributes:
        n_requests: that were asked.
        truncated: requests whose prompt did not fit into the context; cut_tokens: what they lost.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        context_tokens: int | None = None,
        batch_tokens: int = 16_384,
        device: torch.device | str = "cpu",
        responses: Responses | None = None,
        progress: RunProgress | None = None,
    ) -> None:
        super().__init__()
        self._checkpoint = checkpoint
        self._tokenizer = checkpoint.tokenizer
        self._model = checkpoint.folder.model.to(device)
        self._device = torch.device(device)
        self._batch_tokens = batch_tokens
        self._responses = responses or Responses.nowhere()
        self._progress = progress or RunProgress(unit="requests")
        self.max_length = context_tokens or self._model.config.context
        self.n_requests = self.truncated = self.cut_tokens = 0

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text.

        Raises:
            UsageError: the tokenizer has none.
        """
        if self._tokenizer.separator is None:
            raise UsageError(
                "this task needs a token that ends a text, and the tokenizer has none",
                hint="build a tokenizer with one: seqassay lm data build --vocab-size",
            )
        return self._tokenizer.separator.id

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before an empty prompt, and before a text whose perplexity is asked for."""
        return self.eot_token_id if self._tokenizer.prefix is None else self._tokenizer.prefix.id

    @property
    def tokenizer_name(self) -> str:
        """Part of the harness's keys of cached requests."""
        return f"seqassay-{self._tokenizer.digest}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; never with special tokens."""
        found: list[int] = self._tokenizer.encode(string).tolist()
        return found

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability in nats of each continuation, and whether greedy decoding would say it."""
        asked: list[tuple[str, str]] = [request.args for request in requests]
        known = self._responses.find("loglikelihood", asked)
        todo = [number for number, answer in enumerate(known) if answer is None]
        self._begin(len(asked), len(todo))
        pairs = self._pairs([asked[number] for number in todo])
        for number, answer in zip(todo, self._answers(pairs), strict=True):
            known[number] = answer
        self._count_cut(answer[2] for answer in known)
        return [(float(answer[0]), bool(answer[1])) for answer in known]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probability in nats of whole texts, in windows that score every token once."""
        asked: list[tuple[str]] = [request.args for request in requests]
        known = self._responses.find("loglikelihood_rolling", asked)
        todo = [number for number, answer in enumerate(known) if answer is None]
        self._begin(len(asked), len(todo))
        for number in todo:
            windows = utils.get_rolling_token_windows(
                token_list=self.tok_encode(asked[number][0]), prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length, context_len=1,
            )  # fmt: skip
            pairs: list[Pair] = [(None, *utils.make_disjoint_window(window)) for window in windows]
            found = float(sum(answer[0] for answer in self._answers(pairs)))
            known[number] = [found]
            self._responses.add("loglikelihood_rolling", [(asked[number], [found])])
            self._progress.end_shard(1)
        return [float(answer[0]) for answer in known]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """What greedy (or sampled) decoding says after each prompt, up to a stop text.

        Raises:
            UsageError: a task asks for decoding that is not known here.
        """
        asked: list[tuple[str, dict[str, Any]]] = [request.args for request in requests]
        known = self._responses.find("generate_until", asked)
        todo = [number for number, answer in enumerate(known) if answer is None]
        self._begin(len(asked), len(todo))
        groups: dict[str, list[int]] = {}
        for number in todo:
            groups.setdefault(repr(sorted(asked[number][1].items())), []).append(number)
        for numbers in groups.values():
            for number, *answer in self._generate(numbers, [asked[i][0] for i in numbers], asked[numbers[0]][1]):
                known[number] = answer
                self._responses.add("generate_until", [(asked[number], answer)])
        self._count_cut(answer[1] for answer in known)
        return [str(answer[0]) for answer in known]

    def _generate(self, numbers: list[int], prompts: list[str], asked: dict[str, Any]) -> list[tuple[int, str, int]]:
        """Number, text and cut tokens of each; prompts are decoded alike."""
        given = normalize_gen_kwargs(asked, _MAX_NEW_TOKENS)
        end = self._tokenizer.separator
        stops = handle_stop_sequences(given.pop("until", None), eos=None if end is None else end.text)
        stop_bytes = max((len(stop.encode()) for stop in stops), default=0)
        n_new = int(given.pop("max_gen_toks"))
        if n_new >= self.max_length:
            raise UsageError(
                f"a task asks for up to {n_new} new tokens; the context is {self.max_length}",
                hint="evaluate a model with a longer context",
            )
        temperature = float(given.pop("temperature", 0.0))
        decoding = Decoding(
            max_new_tokens=n_new,
            temperature=temperature if given.pop("do_sample", False) else 0.0,
            top_k=given.pop("top_k", None) or None,
            top_p=float(given.pop("top_p", 1.0)),
            stop_ids=frozenset() if end is None else frozenset({end.id}),
        )
        if given:
            raise UsageError(f"a task asks for decoding with {', '.join(sorted(given))}, which is not known here")

        def is_stop(tokens: Sequence[int]) -> bool:
            # a token is at least one byte: older ones cannot be part of a stop text that ends now
            newest = self._tokenizer.decode(list(tokens[-(stop_bytes + 1) :]))
            return any(stop in newest for stop in stops)

        room = self.max_length - n_new
        encoded = [tuple(ids.tolist()) or (self.prefix_token_id,) for ids in self._tokenizer.encode_batch(prompts)]
        found = generate(
            self._model, [ids[-room:] for ids in encoded], decoding,
            batch_tokens=self._batch_tokens, is_stop=is_stop, on_batch=self._progress.end_shard,
        )  # fmt: skip
        return [
            (
                number,
                postprocess_generated_text(self._tokenizer.decode(samples[0].tokens), stops, None),
                max(0, len(ids) - room),
            )
            for number, ids, samples in zip(numbers, encoded, found, strict=True)
        ]

    def _count_cut(self, cut_tokens: Iterable[int]) -> None:
        for n_cut in cut_tokens:
            self.truncated += n_cut > 0
            self.cut_tokens += n_cut

    def _begin(self, n_asked: int, n_todo: int) -> None:
        self.n_requests += n_asked
        self._progress.total_sequences = n_asked
        self._progress.done_sequences = 0
        self._progress.skip_shard(n_asked - n_todo)

    def _pairs(self, asked: Sequence[tuple[str, str]]) -> list[Pair]:
        """Tokens of prompts and continuations, split as `TemplateLM._encode_pair` splits them, but all at once.

        Raises:
            InputError: a continuation without a token of its own.
        """
        texts: list[str] = []
        for context, continuation in asked:
            kept = context.rstrip()
            texts += [kept, kept + context[len(kept) :] + continuation]
        ids = iter([tuple(one.tolist()) for one in self._tokenizer.encode_batch(texts)])
        pairs: list[Pair] = []
        for said in asked:
            prompt, whole = next(ids), next(ids)
            rest = whole[len(prompt) :]
            if not said[0]:
                is_prefix = bool(rest) and rest[0] == self.prefix_token_id
                prompt, rest = (rest[:1], rest[1:]) if is_prefix else ((self.prefix_token_id,), rest)
            if not prompt or not rest:
                which, text = ("prompt", said[0]) if rest else ("continuation", said[1])
                raise InputError(
                    f"the {which} {text!r} has no token of its own",
                    hint="a task's choices begin where its prompts end: see target_delimiter in the task's file",
                )
            pairs.append((said, prompt, rest))
        return pairs

    def _loglikelihood_tokens(self, requests: Sequence[Pair], **kwargs: Any) -> list[tuple[float, bool]]:
        """See `TemplateLM`."""
        return [(log_prob, is_greedy) for log_prob, is_greedy, _ in self._answers(requests)]

    def _answers(self, requests: Sequence[Pair]) -> list[Answer]:
        """Continuations of one prompt are one question; answers are kept batch by batch."""
        of_prompt: dict[tuple[int, ...], list[int]] = {}
        for number, (_, prompt, _) in enumerate(requests):
            of_prompt.setdefault(tuple(prompt), []).append(number)
        members = list(of_prompt.values())
        questions = [
            cut_to_context(prompt, tuple(tuple(requests[number][2]) for number in numbers), self.max_length)
            for prompt, numbers in of_prompt.items()
        ]
        answers: list[Answer] = [(0.0, False, 0)] * len(requests)
        for batch in batches_of_questions(questions, self._batch_tokens):
            found = score_questions(self._model, [questions[i] for i in batch], device=self._device)
            new: list[tuple[tuple[str, str], Answer]] = []
            for question, scores in zip(batch, found, strict=True):
                for number, score in zip(members[question], scores, strict=True):
                    n_left = len(requests[number][2]) + len(requests[number][1]) - 1 - self.max_length
                    answers[number] = (score.log_prob, score.is_greedy, max(0, n_left))
                    asked = requests[number][0]
                    if asked is not None:
                        new.append((asked, answers[number]))
                        self.cache_hook.add_partial("loglikelihood", asked, answers[number][:2])
            if new:
                self._responses.add("loglikelihood", new)
                self._progress.end_shard(len(new))
        return answers
