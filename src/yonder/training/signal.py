"""Dynamic sampling: groups whose completions all score the same teach nothing and are drawn anew (Yu et al. 2025,
DAPO, section 3.2)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from yonder.schema import Rollout, Score
from yonder.training.rollout import StreamRollouts, StreamScores, Term

Generate = Callable[[Mapping[str, int], int], dict[str, list[Rollout]]]  # prompts of each stream, number of the refill
ScoreAll = Callable[[StreamRollouts, int], StreamScores]  # rollouts, number of the refill


@dataclass(frozen=True, slots=True)
class Refill:
    """How often groups without signal are drawn anew, and how much scores must differ to count."""

    refills: int = 0
    tolerance: float = 1e-6


@dataclass(frozen=True, slots=True)
class Gathered:
    """All rollouts of an iteration with their scores, and which of them are trained on."""

    rollouts: StreamRollouts
    scores: StreamScores
    kept: Mapping[str, Sequence[int]]  # indices, whole groups
    metrics: Mapping[str, float]

    def chosen(self) -> tuple[dict[str, list[Rollout]], dict[tuple[str, str], list[Score]]]:
        """The rollouts that are trained on, and their scores."""
        rollouts = {name: [members[i] for i in self.kept[name]] for name, members in self.rollouts.items()}
        scores = {key: [found[i] for i in self.kept[key[1]]] for key, found in self.scores.items()}
        return rollouts, scores


def gather(
    rollouts: StreamRollouts, scores: StreamScores, terms: Sequence[Term], rule: Refill, draw: Generate, score: ScoreAll
) -> Gathered:
    """Add new prompts for groups without signal, at most `rule.refills` times; as many groups as were asked for are
    kept, those with signal first. What is drawn is a function of step and refill, so a resumed run repeats it."""
    wanted = {name: len({rollout.group for rollout in members}) for name, members in rollouts.items()}
    every = {name: list(members) for name, members in rollouts.items()}
    given = {key: list(found) for key, found in scores.items()}
    for number in range(1, rule.refills + 1):
        missing = {name: wanted[name] - len(with_signal(name, every, given, terms, rule.tolerance)) for name in every}
        missing = {name: count for name, count in missing.items() if count > 0}
        if not missing:
            break
        fresh = draw(missing, number)
        for key, found in score(fresh, number).items():
            given[key] += found
        for name, members in fresh.items():
            offset = 1 + max(rollout.group for rollout in every[name])
            every[name] += [replace(rollout, group=offset + rollout.group) for rollout in members]
    kept: dict[str, list[int]] = {}
    metrics: dict[str, float] = {}
    for name, members in every.items():
        good = with_signal(name, every, given, terms, rule.tolerance)
        groups = list(dict.fromkeys(rollout.group for rollout in members))
        chosen = set([*good, *(group for group in groups if group not in good)][: wanted[name]])
        kept[name] = [i for i, rollout in enumerate(members) if rollout.group in chosen]
        if rule.refills:
            metrics[f"rollouts/{name}/groups_drawn"] = len(groups)
            metrics[f"rollouts/{name}/groups_without_signal"] = len(groups) - len(good)
    return Gathered(every, given, kept, metrics)


def with_signal(
    stream: str, rollouts: StreamRollouts, scores: StreamScores, terms: Sequence[Term], tolerance: float
) -> list[int]:
    """The groups of a stream in which some term's scores differ by more than `tolerance`, in order. Where a term has a
    teacher, which needs no comparison, all of them."""
    groups: dict[int, list[int]] = {}
    for i, rollout in enumerate(rollouts[stream]):
        groups.setdefault(rollout.group, []).append(i)
    here = [term for term in terms if term.stream == stream and term.weight > 0]
    if not here or any(term.teacher is not None for term in here):
        return list(groups)
    found: list[int] = []
    for group, members in groups.items():
        for term in here:
            values = [v for v in (scores[term.reward_name, stream][i].value for i in members) if v is not None]
            if values and max(values) - min(values) > tolerance:
                found.append(group)
                break
    return found
