"""Write the model card of the embedded bundle from the record of `mini_accuracy.py`: a view of it, nothing else.

    python benchmarks/mini_card.py benchmarks/results/0.1.0/mini_accuracy.json docs/models/mini.md

The pictures are written beside the page. Needs matplotlib (the extra `report`).
"""

from __future__ import annotations

import argparse
import json
from itertools import zip_longest
from pathlib import Path

import _mini_plots as plots
from _mini_card_figures import (
    accuracy,
    baselines,
    calibration,
    confusion,
    families,
    frames,
    groups,
    made_up,
    mixes,
)
from _mini_tables import (
    NONE,
    Json,
    best_baselines,
    estimate,
    span,
    speed_in_words,
    table,
    threshold_in_words,
)
from seqassay.models.bundle import load_bundle

FAMILY_COLUMNS = 4
FEW_TAXA = 25  # in training; a group with fewer is named among what the model is not for


def card(record: Json, source: str, pictures: dict[str, tuple[str, str]]) -> str:
    """The whole page."""
    sections = (
        head(record, source),
        architecture(record["bundle"], threshold_in_words(record)),
        data(record),
        training(record["training"]),
        accuracy(record, pictures),
        baselines(record),
        frames(record),
        groups(record),
        families(record),
        calibration(record, pictures),
        confusion(record),
        made_up(record),
        mixes(record),
        ablation(record["ablation"]),
        speed(record),
        not_for(record),
        provenance(record),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def head(record: Json, source: str) -> str:
    """What it is, and the figures that most readers came for."""
    bundle, by_length = record["bundle"], record["by_length"]
    rows = [["size", f"{bundle['bytes'] / 1e6:.1f} MB, {bundle['precision']}"]]
    rows += [
        [f"ROC-AUC at {length} bases", estimate(plain(record, length), "roc_auc", "taxa")]
        for length in ("150", "300", "1000", "3000")
        if length in by_length and "plain" in by_length[length]["populations"]["all"]
    ]
    rows += [
        [
            f"more than the best baseline ({name}) at {length} bases",
            f"{its['difference']:+.3f} ({span(its['difference_intervals']['taxa'], signed=True)})",
        ]
        for length, name, its in best_baselines(record)
        if length == "300"
    ]
    if "300" in by_length and "class_balanced" in by_length["300"]["calibration"]:
        found = by_length["300"]["calibration"]["class_balanced"]["calibrated"]
        rows.append(["expected calibration error at 300 bases", f"{found['expected_calibration_error']:.3f}"])
    rows.append(["speed", speed_in_words(record["speed"])])
    return f"""# `{bundle["name"]}`, the embedded bundle

A nucleotide encoder of the DNABERT class and a protein encoder of the ESM-2 class, both small, and a classifier head,
trained from random weights on public database records, so that `seqassay predict` works at once, offline, on a laptop.
It says how virus-like a read or the chunks of a contig are.

{table(["", ""], rows)}

Figures are of the split `{record["split"]}`, which took no part in training, selection or calibration{
        "" if record["split"] == "test" else " (**not so here: this record is of another split, to try things out**)"
    }; intervals are 95%, {record["n_bootstrap"]:,} bootstrap samples, over taxa where nothing else is said.

Bundle digest `{bundle["digest"]}`. This page is written by `benchmarks/mini_card.py` from
`{source}`; every figure in it is in that file."""


def architecture(bundle: Json, threshold: str) -> str:
    """Encoders, heads, chunks."""

    def encoder(said: Json) -> str:
        layers = "1 layer" if said["num_hidden_layers"] == 1 else f"{said['num_hidden_layers']} layers"
        return (
            f"{layers}, width {said['hidden_size']}, {said['num_attention_heads']} heads, "
            f"feed-forward {said['intermediate_size']}, vocabulary {said['vocab_size']:,}"
        )

    calibrated = bundle["calibration"]
    rows = [
        ["nucleotide encoder", encoder(bundle["encoders"]["nucleotide"])],
        ["protein encoder", encoder(bundle["encoders"]["protein"])],
        ["head", f"{bundle['merged_dim']} → {bundle['hidden_units']} → 2, on every stop-free frame"],
        [
            "nucleotide head",
            f"on all six frames, {bundle['nucleotide_head']} hidden units" if bundle["nucleotide_head"] else "none",
        ],
        ["chunk", f"{bundle['chunk_length']} bases, {bundle['chunk_rule']} overlaps"],
        [
            "calibration",
            f"{calibrated['method']}, for samples with {calibrated['prior']:.0%} viral sequences; fitted on at least "
            f"{calibrated['n_others']:,} others at each length"
            if calibrated
            else "none: scores are no probabilities",
        ],
        ["default threshold", threshold],
    ]
    return f"## Architecture\n\n{table(['part', 'what'], rows)}"


def data(record: Json) -> str:
    """Records by group and split, and the viral families in scope."""
    found, left_out = record["data"], record["left_out_as_known"]
    by_split, families_of = found["by_split"], found["viral_families"]
    names = sorted({group for split in by_split.values() for group in split}, key=lambda g: (label_of(by_split, g), g))
    rows = []
    for group in names:
        cells = [split.get(group) for split in by_split.values()]
        shown = [f"{c['records']:,} / {c['bases'] / 1e6:.2f} Mb / {c['taxa']:,}" if c else NONE for c in cells]
        rows.append([group, label_of(by_split, group)[1:], *shown])
    trained = {name: n for name, n in families_of["train"].items() if name}
    reported = {name: n for name, n in families_of[record["split"]].items() if name}
    unseen = sorted(set(reported) - set(trained))
    shared = "; ".join(
        f"{group}, {n['taxa']} ({n['records']} of {n['of_records']:,} records)"
        for group, n in found["taxon_names_shared_with_train"].items()
    )
    in_scope = sorted(trained.items(), key=lambda item: (-item[1], item[0]))
    columns = [in_scope[i::FAMILY_COLUMNS] for i in range(FAMILY_COLUMNS)]
    families = [
        [cell for name, n in row for cell in (name, f"{n:,}" if name else "")]
        for row in zip_longest(*columns, fillvalue=("", 0))
    ]
    return f"""## Training data and taxa in scope

Public database records of viruses, phages and organisms, and contigs of human metagenome studies with the studies' own
labels, split by family and taxon (viruses), species (others) and study (metagenomes). None of the sequences is part of
this package. Of the {left_out["of_records"]:,} records of `{record["split"]}`, {left_out["n_left_out"]:,} share more
than {left_out["limit"]:.0%} of their sampled {left_out["k"]}-mers with an earlier split
({", ".join(f"{name} {n:,}" for name, n in left_out["above_the_limit_by_earlier_split"].items())}) and are left out of
every figure ({", ".join(f"{group} {n:,}" for group, n in left_out["left_out_by_group"].items()) or "none"}).

{table(["group", "label", *(f"{name}: records / bases / taxa" for name in by_split)], rows)}

**Viral families in training**, by number of records (family names are partly inferred from protein k-mers, and
{families_of["train"].get("", 0):,} viral records have none):

{table(["family", "records"] * FAMILY_COLUMNS, families)}

Families of `{record["split"]}` that training never saw: {", ".join(unseen) or "none"}. Taxon names that both have all
the same: {shared or "none"}."""


def training(histories: list[Json]) -> str:
    """How long each part was trained, and which state is shipped."""
    if not histories:
        return ""
    names = [name for name in histories[0]["best"] if name.startswith(("auc_", "balanced_auc_"))]
    rows = [
        [
            said["part"],
            f"{said['steps']:,}",
            f"{said['minutes']:,.0f}",
            f"{said['best']['step']:,}",
            *(f"{said['best'][name]:.3f}" for name in names),
        ]
        for said in histories
    ]
    header = ["part", "steps", "minutes", "state kept", *(name.replace("_", " ") for name in names)]
    return f"""## Training

`runs/train_mini.sh`; the two encoders are trained apart, each with a head of its own. Of every part the state with the
best validation figures is kept: ROC-AUC, plain and with groups balanced, at the length in bases, of fragments that the
encoder can read.

{table(header, rows)}"""


def ablation(found: Json | None) -> str:
    """Each encoder alone, and both."""
    if found is None:
        return ""
    by_length = found["by_length_bases"]
    names = list(next(iter(by_length.values())))
    rows = [
        [name]
        + [f"{r['roc_auc']:.3f} ({span(r['interval_over_records'])})" for r in (at[name] for at in by_length.values())]
        for name in names
    ]
    balanced = [[name, *(f"{at[name]['group_balanced_roc_auc']:.3f}" for at in by_length.values())] for name in names]
    header = ["", *(f"{length} bases" for length in by_length)]
    return f"""## Which encoder does the work

ROC-AUC on `{found["split"]}` (intervals over records), of fragments with a stop-free frame where nothing else is said:

{table(header, rows)}

With groups balanced:

{table(header, balanced)}"""


def speed(record: Json) -> str:
    """Fragments a second, and on what."""
    found, hardware = record["speed"], record["provenance"]["hardware"]
    return (
        f"## Speed\n\n{speed_in_words(found)} ({hardware['processor']}, {hardware['cores']} cores; median of "
        f"{len(found['seconds'])} runs over {found['n_reads']:,} reads, bases to calls, models loaded; load of the "
        f"machine before it: {found['load_average_before']:g}"
        + (
            f"; of bundle `{found['of_bundle'][:12]}`, which differs in its thresholds alone"
            if "of_bundle" in found
            else ""
        )
        + ")."
    )


def not_for(record: Json) -> str:
    """What the figures above advise against."""
    lines = []
    at_150 = record["by_length"].get("150", {}).get("populations", {}).get("all", {}).get("plain")
    if at_150:
        lines.append(
            f"**A verdict on its own**: at the default threshold {1 - at_150['specificity']:.0%} of other fragments of "
            "150 bases are called viral, and where viruses are rare most calls are false. Rank by score or ask for a "
            "false discovery rate, and confirm."
        )
    found = record["by_length"].get("300", {}).get("by_group", {})
    ranked = sorted((r["roc_auc"]["mini"], group) for group, r in found.items() if r.get("roc_auc", {}).get("mini"))
    if ranked:
        worst = ", ".join(f"{group} ({auc:.2f})" for auc, group in ranked[:3])
        lines.append(f"**The groups it tells worst**, by ROC-AUC at 300 bases: {worst}.")
    trained = record["data"]["by_split"]["train"]
    few = ", ".join(
        f"{group} ({found['taxa']})"
        for group, found in sorted(trained.items(), key=lambda item: item[1]["taxa"])
        if found["taxa"] < FEW_TAXA and found["label"] == "other" and not group.startswith("metagenome")
    )
    lines.append(
        f"**Hosts with few taxa in training**: {few or 'none'}. Plants are nearly all *Arabidopsis*; no claim of "
        "specificity is made for any of them."
    )
    known = {name: n for name, n in record["data"]["viral_families"]["train"].items() if name}
    rare = ", ".join(sorted(name for name, n in known.items() if n < 5))
    lines.append(f"**Families with under 5 training records**: {rare or 'none'}; plant viruses are over-represented.")
    if record["bundle"]["calibration"]:
        lines.append(
            "**Probabilities in a sample of another composition** than the calibration's: use `q_value`, which "
            "estimates it, and heed its doubts; a sample unlike the validation data is calibrated like it all the same."
        )
    else:
        lines.append("**Probabilities**: the score is not calibrated.")
    lines.append("**Prophages** in bacterial genomes: bacterial training records may hold unmarked ones.")
    lines.append("**Taxonomy**: it says virus or not, never which.")
    return "## Not for\n\n" + "\n".join(f"- {line}" for line in lines)


def provenance(record: Json) -> str:
    """What the figures depend on."""
    found = record["provenance"]
    libraries = ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
    rows = [
        ["seqassay", f"{found['seqassay']}, commit `{found['git_commit'] or 'unknown'}`"],
        ["Python and libraries", f"{found['python']}; {libraries}"],
        ["hardware", f"{found['hardware']['processor']}, {found['hardware']['cores']} cores"],
        ["made", record["made"]],
        ["seed", str(record["seed"])],
        *([f"sources of the {kind} encoder", text] for kind, text in record["bundle"]["sources"].items() if text),
        *([f"SHA-256 of `{name}`", f"`{digest}`"] for name, digest in record["inputs_sha256"].items()),
    ]
    return f"## Provenance\n\n{table(['', ''], rows)}"


def plain(record: Json, length: str) -> Json:
    """Figures of all scored fragments of one length in the file's composition."""
    found: Json = record["by_length"][length]["populations"]["all"]["plain"]
    return found


def label_of(by_split: Json, group: str) -> str:
    """Label of a group, viral before other when sorted."""
    label = next(split[group]["label"] for split in by_split.values() if group in split)
    return {"viral": "0viral", "other": "1other"}[label]


def main() -> None:
    """Read the record, draw, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("card", type=Path)
    parser.add_argument("--bundle", help="refuse a record of another bundle than this one")
    options = parser.parse_args()
    record = json.loads(options.record.read_text(encoding="utf-8"))
    if (record.get("kind"), record.get("schema")) != ("mini_accuracy", 4):
        raise SystemExit(f"{options.record}: is no record of mini_accuracy.py, or of another version of it")
    if options.bundle and load_bundle(options.bundle).digest != record["bundle"]["digest"]:
        raise SystemExit(f"{options.record}: is of another bundle, with the digest {record['bundle']['digest']}")
    options.card.parent.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for name, draw, said in (
        ("accuracy", plots.accuracy, "ROC-AUC by fragment length, with 95% intervals over taxa"),
        ("curves", plots.curves, "ROC and precision-recall curves of all fragments"),
        ("calibration", plots.calibration, "Viral share by probability, before and after calibration"),
    ):
        path = options.card.with_name(f"{options.card.stem}_{name}.svg")
        plots.save(draw(record), path)
        pictures[name] = (path.name, said)
    options.card.write_text(card(record, options.record.as_posix(), pictures), encoding="utf-8")


if __name__ == "__main__":
    main()
