"""`seqassay lm train`: a language model trained on token files, on Lightning; goes on by itself where it was stopped.

The folder holds ``best/`` and ``last/`` (each a model's folder), ``metrics.csv``, ``training.json``, and while it is
not done ``checkpoint.ckpt``: model, optimizer and progress in one file that is whole or absent.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqassay.config import option_name, settings_as_json
from seqassay.durable import disk_errors
from seqassay.errors import SeqassayError, UsageError, require_package
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.measure.schema import check_schema
from seqassay.models.lm_files import BEST_OF_TRAINING, save_lm
from seqassay.models.lm_plan import LmPlan
from seqassay.train.lm_dev import perplexity_of
from seqassay.train.lm_kill import KillRule, read_baseline
from seqassay.train.lm_loggers import TRACKERS_FILE, Trackers, require_loggers
from seqassay.train.lm_metrics import METRICS_FILE
from seqassay.train.lm_settings import LmTrainSettings, number_of_steps, tokens_per_step
from seqassay.train.lm_start import Start, prepare
from seqassay.train.output_folder import only_writer, read_json, write_json

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from seqassay.train.lm_callback import Progress
    from seqassay.train.lm_checks import OverfitResult, RateCurve

FORMAT, VERSION, KIND = "seqassay-lm-training", "1.0", "lm_training"
TRAINING_FILE, BEST, LAST, RATES_FILE = "training.json", BEST_OF_TRAINING, "last", "lr_find.json"
_CHECKPOINT_FILE = "checkpoint.ckpt"
_OURS = frozenset(
    {
        TRAINING_FILE, BEST, LAST, RATES_FILE, METRICS_FILE, TRACKERS_FILE, _CHECKPOINT_FILE,
        "tensorboard", "wandb", "mlflow.db", "mlruns",
    }
)  # fmt: skip


@dataclass(frozen=True)
class LmTraining:
    """A training that ended.

    Attributes:
        record: what ``training.json`` says; its status is ``done``, or ``killed`` by the kill rule.
        was_done: it had ended before, and nothing was trained.
    """

    folder: Path
    record: dict[str, Any]
    was_done: bool = False


def train_lm(
    settings: LmTrainSettings, plan: LmPlan | None = None, *, callbacks: Sequence[Callback] = ()
) -> LmTraining:
    """Train a model, or go on with a training of the same settings in the same folder.

    Args:
        settings: how.
        plan: of a new model; None with ``settings.checkpoint``.
        callbacks: more of Lightning's, such as a sweep's.

    Raises:
        MissingExtraError: Lightning, or a logger, is not installed.
        UsageError, InputError, ModelError: what cannot be trained with; the folder holds something else.
        LmGuardError: the model sees what it is to predict, or its first loss is not ln V.
        DivergedError: a loss is not finite; names step and learning rate. The last checkpoint stays.
        ResourceError: the disk is full; the last checkpoint stays.
    """
    require_package("lightning", extra="train", purpose="training a language model")
    require_loggers(settings.loggers)
    rule = None
    if settings.baseline is not None:
        rule = KillRule(read_baseline(settings.baseline), settings.kill_margin, settings.kill_tokens)
    folder = settings.output_dir
    with disk_errors(path=folder):
        check_folder(folder)
        start = prepare(settings, plan)
        identity = json.loads(json.dumps(start.identity(settings)))
        # Lightning starts the processes of further devices with this same command: they follow the first one.
        follows = int(os.environ.get("LOCAL_RANK", "0")) > 0
        with contextlib.nullcontext() if follows else only_writer(folder):
            if settings.force and not follows:
                clear(folder)
            before = read_before(folder, identity, settings.baseline)
            if before is not None and before["status"] in ("done", "killed"):
                return LmTraining(folder, before, was_done=True)
            if before is not None:
                start.files.verify()  # the identity names digests that the manifest gives
            return LmTraining(folder, _run(settings, start, rule, identity, callbacks, before, follows=follows))


def _run(
    settings: LmTrainSettings,
    start: Start,
    rule: KillRule | None,
    identity: dict[str, Any],
    callbacks: Sequence[Callback],
    before: dict[str, Any] | None,
    *,
    follows: bool,
) -> dict[str, Any]:
    """The part that takes time; returns what ``training.json`` says, which comes last."""
    from seqassay.train.lm_checks import check_before_training
    from seqassay.train.lm_loop import run_lm_loop

    folder = settings.output_dir
    goes_on = (folder / _CHECKPOINT_FILE).is_file()
    if before is not None and goes_on:
        first_loss = before["training"]["first_batch_loss"]
    else:
        first_loss = check_before_training(
            start.model.to(start.device), start.windows, untrained=start.untrained, device=start.device,
            context=start.context,
        )  # fmt: skip
    record = {**_record(settings, start, identity), "training": {"first_batch_loss": first_loss}}
    if not follows:
        write_json(folder / TRAINING_FILE, record)

    def save(name: str, progress: Progress) -> None:
        figures = {
            "step": progress.step,
            "tokens_seen": progress.step * tokens_per_step(settings, start.model.config.context),
            "dev_loss": progress.last_loss,
            "dev": start.dev.said(),
            "settings": settings_as_json(settings),
        }
        save_lm(
            start.model, folder / name, plan=start.plan, seed=settings.seed, tokenizer=start.tokenizer,
            more={"training": figures}, replace=True,
        )  # fmt: skip

    trackers = Trackers()
    try:
        progress = run_lm_loop(
            settings, start, rule, folder, trackers, save_best=lambda _, p: save(BEST, p), callbacks=callbacks
        )
    except SeqassayError as error:
        if not follows:
            write_json(folder / TRAINING_FILE, {**record, "status": "failed", "error": error.message})
        raise
    if follows:
        return record
    save(LAST, progress)
    record["trackers"] = trackers.said
    record |= _ending(settings, start, rule, progress, first_loss)
    check_schema(record, KIND)
    write_json(folder / TRAINING_FILE, record)
    (folder / _CHECKPOINT_FILE).unlink(missing_ok=True)
    return record


def _record(settings: LmTrainSettings, start: Start, identity: dict[str, Any]) -> dict[str, Any]:
    manifest = start.files.manifest
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": KIND,
        "status": "running",
        "written_at": utc_now(),
        "identity": identity,
        "settings": settings_as_json(settings),
        "model": {"config": asdict(start.model.config), "params": start.plan.n_params},
        "data": {
            "path": str(start.files.folder),
            "tokenizer_digest": start.files.tokenizer_digest,
            "train_tokens": manifest["splits"]["train"]["tokens"],
            "dev": start.dev.said(),
        },
        "device": device_name(start.device),
        "precision": start.precision,
        "provenance": provenance(),
        "error": None,
        "killed": None,
    }


def _ending(
    settings: LmTrainSettings, start: Start, rule: KillRule | None, progress: Progress, first_loss: float
) -> dict[str, Any]:
    verdict = None if rule is None else rule.verdict
    tokens_seen = progress.step * tokens_per_step(settings, start.model.config.context)
    return {
        "status": "done" if verdict is None else "killed",
        "written_at": utc_now(),
        "killed": verdict,
        "training": {
            "first_batch_loss": first_loss,
            "steps": progress.step,
            "steps_planned": number_of_steps(settings, start.model.config.context),
            "tokens_seen": tokens_seen,
            "epochs": tokens_seen / len(start.windows.tokens),
            "best": {
                "step": progress.best_step,
                "dev_loss": progress.best_loss,
                "dev_perplexity": perplexity_of(progress.best_loss),
                "path": BEST,
            },
            "last": {
                "step": progress.step,
                "dev_loss": progress.last_loss,
                "dev_perplexity": perplexity_of(progress.last_loss),
                "path": LAST,
            },
            "wall_s": progress.wall_s,
            "aside_s": progress.aside_s,
            "tokens_per_s": tokens_seen / (progress.wall_s - progress.aside_s),
        },
    }


def find_rate(settings: LmTrainSettings, plan: LmPlan | None = None) -> RateCurve:
    """The learning-rate finder's curve, also written to ``lr_find.json``; trains a copy, a hundred steps at most."""
    require_package("lightning", extra="train", purpose="training a language model")
    from seqassay.train.lm_checks import find_learning_rate

    folder = settings.output_dir
    with disk_errors(path=folder):
        check_folder(folder)
        start = prepare(settings, plan)
        model = start.model.to(start.device)
        curve = find_learning_rate(model, start.windows, settings, device=start.device, context=start.context)
        with only_writer(folder):
            said = {
                "method": "rates grow from 1e-6 to 1 by a constant factor a step; losses are smoothed by 0.9; the "
                "suggestion is where the smoothed loss falls fastest per decade (Smith 2017)",
                "suggestion": curve.suggestion,
                "rates": curve.rates,
                "losses": curve.losses,
                "settings": settings_as_json(settings),
                "provenance": provenance(),
            }
            write_json(folder / RATES_FILE, said)
    return curve


def check_overfit(settings: LmTrainSettings, plan: LmPlan | None = None) -> OverfitResult:
    """A copy of the model learns a few windows by heart, or an error says what is likely wrong; writes nothing."""
    require_package("lightning", extra="train", purpose="training a language model")
    from seqassay.train.lm_checks import overfit_one_batch

    start = prepare(settings, plan)
    model = start.model.to(start.device)
    return overfit_one_batch(model, start.windows, settings, device=start.device, context=start.context)


def check_folder(folder: Path) -> None:
    """The folder is absent, empty, or a training's.

    Raises:
        UsageError: names what is in the way.
    """
    if not folder.is_dir():
        return
    odd = sorted(p.name for p in folder.iterdir() if p.name not in _OURS and not p.name.startswith(".")
                 and not p.name.endswith(".partial"))  # fmt: skip
    if odd:
        raise UsageError(f"{folder}: holds {odd[0]}, which no training wrote", hint="choose another --output-dir")


def clear(folder: Path) -> None:
    """Remove a training from its folder; what a learning-rate finder or a logger wrote stays."""
    for name in (TRAINING_FILE, METRICS_FILE, TRACKERS_FILE, _CHECKPOINT_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in (BEST, LAST):
        shutil.rmtree(folder / name, ignore_errors=True)


def read_before(folder: Path, identity: dict[str, Any], baseline: str | None) -> dict[str, Any] | None:
    """The record of the training that is in the folder, of the same identity; None where there is none.

    Args:
        baseline: of the kill rule, as it was given.

    Raises:
        UsageError: it is of another identity; names what differs. There is a checkpoint and no record of whose.
    """
    path = folder / TRAINING_FILE
    if not path.is_file():
        if (folder / _CHECKPOINT_FILE).is_file():
            raise UsageError(
                f"{folder}: holds a checkpoint without {TRAINING_FILE}, which says what it was trained with",
                hint="begin again with --force, or choose another folder",
            )
        return None
    before = read_json(path)
    there = before.get("identity")
    if before.get("format") != FORMAT or not isinstance(there, dict):
        raise UsageError(f"{path}: is not the record of a language model's training", hint="choose another folder")
    if "baseline" in identity:
        check_baseline(folder, there.get("baseline"), identity["baseline"], baseline)
        there = {**there, "baseline": identity["baseline"]}
    if there != identity:
        name = next(key for key in identity if there.get(key) != identity[key])
        raise UsageError(
            f"{folder}: holds a training of other settings: {option_name(name).removeprefix('--')} is "
            f"{_short(there.get(name))} there, {_short(identity[name])} here",
            hint="give the same settings to go on, choose another folder, or begin again with --force",
        )
    return before


def check_baseline(folder: Path, there: Any, here: Any, given: str | None) -> None:
    """A training goes on against the baseline that it began with.

    Args:
        there, here: in the identity of the training in the folder, and of the one that is asked for. Versions up to
            0.1.0 wrote what was given, a curve's place for example.
        given: the baseline of the one that is asked for.

    Raises:
        UsageError: the baseline is another.
    """
    if isinstance(there, str):
        try:
            there = {"curve_sha256": read_baseline(there).sha256}
        except UsageError:
            raise UsageError(
                f"{folder}: holds a training whose baseline is known by its place alone, {there}, and is not there now",
                hint="move it back there to go on, choose another folder, or begin again with --force",
            ) from None
    if there == here:
        return
    begun = "without a baseline" if there is None else "against another baseline"
    raise UsageError(
        f"{folder}: holds a training that was begun {begun}, not against {given or 'none'} as that is now",
        hint="give the baseline that it began with, choose another folder, or begin again with --force",
    )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:59] + "…"
