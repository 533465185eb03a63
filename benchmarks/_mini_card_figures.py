"""The card's sections of figures: accuracy, baselines, groups, calibration, made-up sequences, discovery rates."""

from __future__ import annotations

from _mini_tables import (
    NONE,
    Json,
    best_baselines,
    error_of,
    estimate,
    percent,
    rate_of,
    span,
    table,
    threshold_in_words,
    with_figures,
)

COST = ("recall", "specificity", "precision")


def plain(value: float | None) -> str:
    """A figure, or a dash where it is undefined."""
    return NONE if value is None else f"{value:.3f}"


def middle(found: Json) -> str:
    """Balanced accuracy."""
    return plain((found["recall"] + found["specificity"]) / 2)


def accuracy(record: Json, pictures: dict[str, tuple[str, str]]) -> str:
    """By length: ranking, and calls at the threshold."""
    ranking, calls, cost = [], [], []
    for length, figures in with_figures(record).items():
        all_of = figures["populations"]["all"]
        found = all_of["plain"]
        ranking.append(
            [
                length,
                f"{all_of['n']:,} ({all_of['n_viral']:,})",
                estimate(found, "roc_auc", "taxa"),
                span(found["intervals"]["records"]["roc_auc"]),
                estimate(found, "average_precision", "taxa"),
                estimate(all_of["group_balanced"], "roc_auc", "taxa"),
            ]
        )
        names = ("accuracy", "precision", "recall", "f1", "specificity", "mcc")
        calls.append([length, *(estimate(found, name, "records") for name in names)])
        flat = found["at_0.5"]
        cost.append(
            [length, *(f"{plain(found[k])} / {plain(flat[k])}" for k in COST), f"{middle(found)} / {middle(flat)}"]
        )
    unscored = [
        f"{n['n_unscored']:,} of {n['n_drawn']:,} at {k}" for k, n in record["by_length"].items() if n["n_unscored"]
    ]
    header = ["bases", "fragments (viral)", "ROC-AUC (over taxa)", "over records", "average precision"]
    lines = [
        f"{k} bases: {v['populations']['all']['reason']}"
        for k, v in record["by_length"].items()
        if k not in with_figures(record)
    ]
    return f"""## Accuracy by length

At most {record["fragments_per_record"]} fragments of each record; one model for all lengths. {
        "Fragments without a score are left out here: " + ", ".join(unscored) + " bases."
        if unscored
        else "Every fragment has a score, with a stop-free frame or without."
    } The last column counts groups as training does, and both labels alike.

{table([*header, "ROC-AUC, groups balanced"], ranking)}

![{pictures["accuracy"][1]}]({pictures["accuracy"][0]})

Calls at the default threshold ({threshold_in_words(record)}), in the composition of the file; intervals over records:

{table(["bases", "accuracy", "precision", "recall", "F1", "specificity", "MCC"], calls)}

What the default threshold costs and brings, beside calls at 0.5 (`--threshold 0.5`):

{table(["bases", *(f"{name}, default / at 0.5" for name in (*COST, "balanced accuracy"))], cost)}

![{pictures["curves"][1]}]({pictures["curves"][0]})""" + ("\n\n" + "; ".join(lines) + "." if lines else "")


def baselines(record: Json) -> str:
    """Ours minus each baseline's ROC-AUC on the same fragments, and whether that is above zero."""
    rows = []
    for length, figures in with_figures(record).items():
        balanced = figures["populations"]["all"]["group_balanced"].get("baselines", {})
        for name, found in figures["populations"]["all"]["plain"]["baselines"].items():
            its = found["roc_auc"]
            rows.append(
                [
                    length,
                    name,
                    f"{its['value']:.3f} ({span(its['intervals']['taxa'])})",
                    f"{its['difference']:+.3f}",
                    span(its["difference_intervals"]["records"], signed=True),
                    span(its["difference_intervals"]["taxa"], signed=True),
                    f"{balanced[name]['roc_auc']['difference']:+.3f}" if name in balanced else NONE,
                ]
            )
    ahead, behind = [], []
    for length, _, its in best_baselines(record):
        intervals = its["difference_intervals"]
        above = [unit for unit, pair in intervals.items() if isinstance(pair, list) and pair[0] > 0]
        (ahead if above else behind).append(f"{length} (over {' and '.join(above)})" if above else length)
    missing = ", ".join(f"{m['name']} at {m['length']}" for m in record["baselines"]["missing"])
    if not rows:
        return f"## Against baselines\n\nNone was trained for this record: {missing}."
    verdict = "; ".join(
        text
        for text in (
            f"ahead of the best of them, with the interval of the difference above zero, at {', '.join(ahead)} bases"
            if ahead
            else "",
            f"not so at {', '.join(behind)} bases" if behind else "",
        )
        if text
    )
    return f"""## Against baselines

Trained on the same training records, one for each length, their settings chosen on the validation data; they score the
same fragments, and differences are paired. `{record["bundle"]["name"]}` is {verdict}.{
        f" Not trained, so not compared: {missing}." if missing else ""
    }

{
        table(
            [
                "bases",
                "baseline",
                "its ROC-AUC",
                "difference",
                "over records",
                "over taxa",
                "difference, groups balanced",
            ],
            rows,
        )
    }"""


def frames(record: Json) -> str:
    """Fragments with a stop-free frame and without one."""
    rows = []
    for length, figures in record["by_length"].items():
        shares, cells = figures["share_with_frame"], []
        for population in ("with_frame", "without_frame"):
            found = figures["populations"][population]
            has = "plain" in found
            cells += [f"{found['n']:,}", estimate(found["plain"], "roc_auc", "taxa") if has else NONE]
        rows.append([length, percent(shares["viral"]), percent(shares["other"]), *cells])
    note = (
        "A fragment without one is scored by the nucleotide head alone."
        if record["bundle"]["nucleotide_head"]
        else "A fragment without one gets no score: this bundle has no nucleotide head."
    )
    header = [
        "bases",
        "viral with a frame",
        "others with one",
        "n with",
        "ROC-AUC with",
        "n without",
        "ROC-AUC without",
    ]
    return f"## With and without a stop-free frame\n\n{note}\n\n{table(header, rows)}"


def groups(record: Json) -> str:
    """Every group against all fragments of the other label, at two lengths."""
    parts = [
        "## By group\n\nEach group against all fragments of the other label. Few taxa: read with care. Where "
        "none is called viral, or every one, the interval is Wilson's with a record for an example."
    ]
    for length in ("150", "300", "1000"):
        found = record["by_length"].get(length, {}).get("by_group", {})
        having = {name for r in found.values() for name in r.get("roc_auc", {})}
        others = [name for name in record["baselines"]["names"] if name in having]
        rows = [
            [
                group,
                r["label"],
                f"{r['n']:,} / {r['records']:,} / {r['taxa']:,}",
                f"{r['roc_auc']['mini']:.3f}" if "roc_auc" in r else NONE,
                span(r["roc_auc_intervals"]["records"]) if "roc_auc" in r else NONE,
                *(f"{r['roc_auc'][name]:.3f}" if "roc_auc" in r else NONE for name in others),
                f"{percent(r['called_viral'])} ({span(r['called_viral_interval'], percents=True)})",
                percent(r["called_viral_at_0.5"]),
            ]
            for group, r in sorted(found.items(), key=lambda item: (item[1]["label"] == "other", item[0]))
        ]
        if rows:
            header = [
                "group",
                "label",
                "fragments / records / taxa",
                "ROC-AUC",
                "over records",
                *others,
                "called viral",
                "at 0.5",
            ]
            parts.append(f"At {length} bases:\n\n{table(header, rows)}")
    return "\n\n".join(parts)


def families(record: Json) -> str:
    """Share of each viral family that is called."""
    found = record["by_length"].get("300", {}).get("by_family", {})
    if not found:
        return ""
    trained = record["data"]["viral_families"]["train"]
    rows = [
        [
            name or "(unknown)",
            f"{trained.get(name, 0):,}" if name else NONE,
            f"{r['n']:,} / {r['records']:,}",
            f"{percent(r['recall'])} ({span(r['recall_interval'], percents=True)})",
        ]
        for name, r in sorted(found.items(), key=lambda item: (item[0] == "", item[1]["recall"], item[0]))
    ]
    header = ["family", "records in training", "fragments / records", "called viral (over records)"]
    text = "Fragments of 300 bases at the default threshold, the worst first."
    return f"## By viral family\n\n{text}\n\n{table(header, rows)}"


def calibration(record: Json, pictures: dict[str, tuple[str, str]]) -> str:
    """Expected calibration error by length and composition, before and after."""
    rows = []
    for length, figures in record["by_length"].items():
        found = figures["calibration"]
        if "class_balanced" not in found:
            continue
        ours = found["class_balanced"]["calibrated"]
        rows.append(
            [
                length,
                f"{found['class_balanced']['raw']['expected_calibration_error']:.3f}",
                f"{ours['expected_calibration_error']:.3f} ({span(ours['expected_calibration_error_interval'])})",
                error_of(found, "group_balanced"),
                error_of(found, "plain"),
                percent(found["plain"]["viral_share"]),
                f"{ours['brier_score']:.3f}",
                f"{ours['log_loss']:.3f}",
            ]
        )
    header = ["bases", "before", "calibrated (over records)", "groups balanced", "as in the file", "viral in the file"]
    bins = next(iter(record["by_length"].values()))["calibration"].get("bins")
    return f"""## Calibration

Expected calibration error: mean distance of probability and viral share over {bins} bins of equal mass. A probability
holds for one composition: both labels counted alike, except in the columns that say otherwise. Noise only adds to this
error, so its interval lies above it. "Before" are the heads' own probabilities. How the calibration is fitted was
settled after some twenty looks at this split ([what was tried](../architecture.md#small-encoders-are-trained-apart)),
its weights were not: expect errors somewhat larger on other data.

{table([*header, "Brier score", "log loss"], rows)}

{over_taxa(record)}

![{pictures["calibration"][1]}]({pictures["calibration"][0]})"""


def over_taxa(record: Json) -> str:
    """How far the error of a split of so few taxa says anything, and what a better calibration could come to."""
    found = {length: figures["calibration"].get("over_taxa", {}) for length, figures in record["by_length"].items()}
    samples = [("all together", "all", record["calibration_of_all_lengths"])]
    samples += [(length, name, its[name]) for length, its in found.items() for name in ("all", "metagenome study")]
    measured = [sample for sample in samples if "of_a_calibrated_score" in sample[2]]
    if not measured:
        return ""
    bar = next(iter(found.values()))["bar"]
    places: dict[str, list[str]] = {"below": [], "inside": [], "above": []}
    for length, name, its in measured[1:]:
        if name == "all":
            low, high = its["resampled_95"]
            places["below" if high < bar else "above" if low > bar else "inside"].append(length)
    where = {
        "below": "The interval lies below the aim at {}.",
        "inside": "The aim lies inside the interval at {}: there these data can't tell whether it is met.",
        "above": "The interval lies above the aim at {}: there it is not met.",
    }
    met = [length for length, name, its in measured[1:] if name == "all" and its["expected_calibration_error"] <= bar]
    said = " ".join(where[place].format(f"{', '.join(at)} bases") for place, at in places.items() if at)
    n_halvings = next(
        (its["on_half_of_the_taxa"]["n_halvings"] for *_, its in measured if its["on_half_of_the_taxa"]), 0
    )
    header = ["bases", "fragments", "number (viral) / taxa", "error", "over taxa", "of a score without fault"]
    halves = ["on half of the taxa", "calibrated by the other half"]
    return f"""The aim was an error of at most {bar:g} on held-out studies: so it is at {", ".join(met) or "no"} bases.
How much can a split with so few taxa say of that? Samples of whole taxa, both labels counted alike, give the interval;
and a score without any fault, this one carried to the viral shares that the split itself has at every score, gives the
error that so few taxa make by themselves. {said} "All together" is one sample of all lengths, each
counted alike; "metagenome study" is both groups of the held-out study alone.

Would another calibration do better? The last two columns are of {n_halvings} random halvings of the split's taxa: the
error on one half of the score as it is, and of the score as the other half calibrates it (mean, and where 95% of the
halvings lie). No calibration set is nearer to these taxa than they are to each other.

{table([*header, f"chance of over {bar:g} without fault", *halves], [_sample_row(*sample) for sample in measured])}"""


def _sample_row(length: str, name: str, its: Json) -> list[str]:
    """A sample's errors, in a row."""
    floor, halves = its["of_a_calibrated_score"], its["on_half_of_the_taxa"]
    return [
        length,
        name,
        f"{its['n']:,} ({its['n_viral']:,}) / {its['n_taxa']:,}",
        f"{its['expected_calibration_error']:.3f}",
        span(its["resampled_95"]),
        f"{floor['mean']:.3f} ({span(floor['resampled_95'])})",
        percent(floor["share_above_bar"]),
        *(
            f"{halves[of]['mean']:.3f} ({span(halves[of]['halvings_95'])})" if halves else NONE
            for of in ("as_it_is", "calibrated_by_the_other_half")
        ),
    ]


def confusion(record: Json) -> str:
    """Numbers of calls at 300 bases."""
    found = with_figures(record).get("300")
    if not found:
        return ""
    (tn, fp), (fn, tp) = found["populations"]["all"]["plain"]["confusion"]
    rows = [["others", f"{tn:,.0f}", f"{fp:,.0f}"], ["viral", f"{fn:,.0f}", f"{tp:,.0f}"]]
    text = "Fragments of 300 bases at the default threshold."
    return f"## Confusion matrix\n\n{text}\n\n{table(['truth', 'called others', 'called viral'], rows)}"


def made_up(record: Json) -> str:
    """Share called viral of sequences that no organism has."""
    found = record["made_up"]
    lengths = list(next(iter(found.values()))["by_length"])
    rows = [
        [kind, said["made_of"]]
        + [
            f"{percent(r['called_viral'])} ({span(r['called_viral_interval'], percents=True)}); "
            f"{percent(r['called_viral_at_0.5'])}"
            for r in (said["by_length"][length] for length in lengths)
        ]
        for kind, said in found.items()
    ]
    n = next(iter(found.values()))["by_length"][lengths[0]]["n"]
    header = ["kind", "made of", *(f"called viral, {length} bases" for length in lengths)]
    learnt = ", ".join(record["made_up_in_training"])
    text = f"""{n:,} of a kind and length, where there are as many, called at the default threshold (Wilson's intervals)
and, after the semicolon, at 0.5. Training has such kinds among its others ({learnt}), but none that is reversed. The
threshold was fitted to all kinds but those, made of training and validation records, to call at most 5% of each."""
    return f"## Made-up sequences\n\n{text}\n\n{table(header, rows)}"


def mixes(record: Json) -> str:
    """False discovery rates of samples of known composition."""
    found = record["fdr_mixes"]
    if "by_length" not in found:
        return f"## False discovery rates\n\nNot measured: {found['reason']}."
    rows, reasons = [], []
    for length, of_length in found["by_length"].items():
        for share, mix in of_length["by_viral_share"].items():
            asked = mix["by_wanted_rate"]["0.05"]
            if not asked["can_tell"]:
                reasons.append(f"{length} bases, {float(share):.0%} viral: {asked['reason']}")
            rows.append(
                [
                    length,
                    f"{float(share):.0%}",
                    f"{percent(mix['estimated_viral_share'])} ({span(mix['estimated_interval'], percents=True)})",
                    f"{asked['n_called']:,}",
                    rate_of(asked),
                    percent(asked["recall"]),
                    "yes" if asked["can_tell"] else "no",
                    rate_of(mix["called_at_0.5"]),
                ]
            )
    header = ["bases", "viral", "estimated viral", "called at `--fdr 0.05`", "of them false", "recall", "vouched for"]
    said = "".join(f"\n- {reason}" for reason in reasons)
    return f"""## False discovery rates

Mixes of {found["size"]:,} fragments of known composition, drawn by record; composition and q-values are estimated from
their scores alone (intervals of the true rate: over records). Where the rate is not vouched for, `predict` says so.

{table([*header, "false at a score of 0.5"], rows)}""" + (f"\n\nNot vouched for:\n{said}" if said else "")
