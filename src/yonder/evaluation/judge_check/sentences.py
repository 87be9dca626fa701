"""A judge check in a few lines, for a terminal."""

from yonder.evaluation.judge_check.check import JudgeCheck, Speed
from yonder.schema import Interval


def check_sentences(check: JudgeCheck) -> list[str]:
    """The verdict first, then what was measured; figures that are not defined are left out."""
    found = [f"{check.admission.verdict}: {check.admission.why}"]
    rates = [
        f"{name} {shown(figure)}"
        for name, figure in (
            ("AUROC", check.auroc),
            ("ECE", check.ece),
            (f"at delta {check.delta:g} wrong ones liked", check.false_positive_rate),
            ("right ones disliked", check.false_negative_rate),
        )
        if figure is not None
    ]
    found += [", ".join(rates)] if rates else []
    if check.guarded:
        found.append(f"{check.guarded} of {check.n} scored responses are 0 by a guard, unasked; the figures count them")
    for row in check.best_of:
        if row.oracle.value == 0:
            found.append(f"best of {row.n}: not measured, for none of {row.questions} questions has a right response")
            continue
        found.append(
            f"best of {row.n}: {shown(row.chosen)} right, {shown(row.lift, '+')} by its choice; "
            f"at most {row.oracle.value:.3f} (pass@{row.n})"
        )
    if (ours := check.baseline.yes_or_no) is not None and (other := check.baseline.likelihood) is not None:
        found.append(
            f"right one preferred on {check.baseline.questions} questions: {shown(ours.pairwise)}; "
            f"by likelihood (LL) {shown(other.pairwise)}"
        )
    found += [
        text for text in (_fitted(check), check.attacks and check.attacks.sentence(), _speed(check.speed)) if text
    ]
    return found


def shown(figure: Interval, sign: str = "") -> str:
    """A figure with its interval, where it has one; `sign` "+": a difference."""
    value, low, high = (f"{x:{sign}.3f}" for x in (figure.value, figure.low, figure.high))
    return f"{value} ({low} to {high})" if figure.bounded else value


def _fitted(check: JudgeCheck) -> str:
    fitted = check.fitted
    if fitted.delta is None or fitted.false_positive_rate is None:
        return ""
    scale = "" if fitted.tau is None else f"tau {fitted.tau:.3g} and "
    return (
        f"fitted on {fitted.fitted_on} questions: {scale}delta {fitted.delta:.3g}; on the other {fitted.measured_on} "
        f"they accept {shown(fitted.false_positive_rate)} of the wrong ones"
    )


def _speed(speed: Speed | None) -> str:
    if speed is None:
        return ""
    cost = "" if speed.cost is None else f", cost {speed.cost:.3g}"
    return f"{speed.verdicts:,} verdicts, {speed.verdicts_per_s:,.0f} a second{cost}"
