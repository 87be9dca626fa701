"""Scores into columns, and each term's advantages over its own scored rows."""

from __future__ import annotations

import pytest
import torch

from tests.training.test_update import batch_of
from yonder.core.masking import whiten
from yonder.schema import Completion, Prompt, Rollout, Score
from yonder.training.advantages import Estimator, estimate_advantages, place_scores
from yonder.training.batch import Batch, flatten, pack
from yonder.training.distill import due
from yonder.training.rollout import Term, derived_seed, score_streams


def rollouts(count: int) -> list[Rollout]:
    prompt = Prompt(id="p", question="q", text="q")
    return [Rollout(prompt, (5,), Completion((6, 7), (-1.0, -1.0), "x", True), group=i // 2) for i in range(count)]


def term(reward: str, stream: str) -> Term:
    return Term(reward, stream, 0.5, None)  # type: ignore[arg-type]


def test_scores_go_to_their_terms_and_streams() -> None:
    streams = {"labeled": rollouts(2), "unlabeled": rollouts(3)}
    terms = [term("verifiable", "labeled"), term("judge", "unlabeled"), term("judge", "labeled")]
    scores = {
        ("verifiable", "labeled"): [Score(1.0), Score(0.0)],
        ("judge", "unlabeled"): [Score(0.7), Score(None, "no mass"), Score(0.0)],
        ("judge", "labeled"): [Score(None, "no mass"), Score(0.9)],
    }
    batch = pack(*flatten(streams), 3, torch.device("cpu"))
    found = place_scores(batch, streams, scores, terms)
    expected = [[1, 0, 0], [0, 0, 0.9], [0, 0.7, 0], [0, 0, 0], [0, 0, 0]]
    assert torch.allclose(found.scores, torch.tensor(expected))
    # unscored is not zero: a scored 0.0 has a 1 here, a None has a 0
    assert found.scored.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_group_numbers_are_unique_over_streams() -> None:
    _, groups = flatten({"a": rollouts(4), "b": rollouts(2), "c": rollouts(3)})
    assert groups == [0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_ppo_columns_are_estimated_over_their_own_rows() -> None:
    batch = batch_of(
        scores=torch.tensor([[1.0, 0.0], [0.0, 0.5]]),
        old_logprobs=torch.tensor([[-1.0, -2.0], [-1.0, 0.0]]),
        reference_logprobs=torch.tensor([[-2.0, -1.0], [-3.0, 0.0]]),
        old_values=torch.tensor([[[0.2, 9.0], [0.4, 9.0]], [[9.0, 0.1], [9.0, 9.0]]]),
    )
    found = estimate_advantages(batch, Estimator("value", 0.1, "batch", gamma=0.9, gae_lambda=0.5))
    # term 0, row 0: k1 = 1, -1; rewards -0.1, 0.1 + 1.0
    #   delta_1 = 1.1 - 0.4 = 0.7
    #   delta_0 = -0.1 + 0.9 * 0.4 - 0.2 = 0.06; A_0 = 0.06 + 0.45 * 0.7 = 0.375; returns 0.575, 1.1
    # term 1, row 1: k1 = 2; reward -0.2 + 0.5 = 0.3; A = 0.3 - 0.1 = 0.2; return 0.3
    assert found.returns[..., 0].flatten().tolist() == pytest.approx([0.575, 1.1, 0.0, 0.0], abs=1e-6)
    assert found.returns[..., 1].flatten().tolist() == pytest.approx([0.0, 0.0, 0.3, 0.0], abs=1e-6)
    # whitened over the term's own two tokens: mean 0.5375, deviations -+0.1625
    #   unbiased std 0.1625 * sqrt 2: -+0.7071068
    assert found.advantages[..., 0].flatten().tolist() == pytest.approx([-0.7071068, 0.7071068, 0, 0], abs=1e-6)
    assert found.advantages[..., 1].abs().max() == 0  # one token alone has no spread


def test_ppo_whitens_over_every_scored_token_of_the_term() -> None:
    batch = batch_of(scores=torch.tensor([[1.0, 0.0], [0.0, 0.0]]), scored=torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    found = estimate_advantages(batch, Estimator("value", 0.0, "batch", gamma=1.0, gae_lambda=1.0)).advantages[..., 0]
    # plain advantages 1, 1 and 0: as whitened by the core function, whose own numbers are tested by hand
    expected = whiten(torch.tensor([[1.0, 1.0], [0.0, 0.0]]), batch.completion_mask)
    assert torch.allclose(found, expected, atol=1e-6)
    assert found[0, 0].item() == pytest.approx(0.5773503, abs=1e-6)  # (1 - 2/3) / sqrt(1/3)


def test_grpo_columns_compare_within_groups_and_terms() -> None:
    scores = torch.tensor([[1.0, 0.3], [0.0, 0.9]])
    batch = batch_of(scores=scores, scored=torch.tensor([[1.0, 1.0], [1.0, 0.0]]), groups=torch.tensor([3, 3]))
    found = estimate_advantages(batch, Estimator("group", 0.0, "none"))
    # term 0: 1 and 0, mean 0.5, the same for every token of a row; term 1: one scored member
    assert found.advantages[..., 0].tolist() == [[0.5, 0.5], [-0.5, 0.0]]
    assert found.advantages[..., 1].abs().max() == 0
    assert found.returns.abs().max() == 0


def test_grpo_with_the_penalty_in_the_reward_charges_what_is_still_to_come() -> None:
    batch = batch_of(
        scores=torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
        scored=torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
        groups=torch.tensor([3, 3]),
        old_logprobs=torch.tensor([[-1.0, -2.0], [-1.0, 5.0]]),
        reference_logprobs=torch.tensor([[-2.0, -1.5], [-3.0, 0.0]]),
    )
    found = estimate_advantages(batch, Estimator("group", 0.1, "none")).advantages[..., 0]
    # k1: 1, -0.5 and 2; still to come: 0.5, -0.5 and 2. 0.5 - 0.05, 0.5 + 0.05, -0.5 - 0.2
    assert found.flatten().tolist() == pytest.approx([0.45, 0.55, -0.7, 0.0], abs=1e-6)


def test_a_reward_reads_a_stream_once() -> None:
    class Counting:
        def __init__(self) -> None:
            self.asked: list[int] = []

        def score(self, members: list[Rollout]) -> list[Score]:
            self.asked.append(len(members))
            return [Score(0.5)] * len(members)

    judge = Counting()
    terms = [Term("judge", "labeled", 0.5, judge), Term("judge", "unlabeled", 0.5, judge)]
    probe = Term("judge", "labeled", 0, judge)
    found = score_streams({"labeled": rollouts(2), "unlabeled": rollouts(3)}, terms, [probe])
    assert judge.asked == [2, 3]  # the probe takes the scores that the term already has
    assert set(found) == {("judge", "labeled"), ("judge", "unlabeled")}


def test_seeds_are_functions_of_their_parts() -> None:
    assert derived_seed(0, "a", 1) == derived_seed(0, "a", 1) != derived_seed(0, "a", 2)
    assert 0 <= derived_seed("x") < 2**56


@pytest.mark.parametrize(
    ("step", "every", "stride", "last", "expected"),
    [
        (4, 4, 2, False, True),
        (6, 4, 2, False, False),
        (6, 5, 2, False, True),  # step 5 was one of the two just made
        (6, 0, 2, False, False),  # never
        (7, 4, 2, True, True),  # the last always
    ],
)
def test_due(step: int, every: int, stride: int, last: bool, expected: bool) -> None:
    assert due(step, every, stride, last) is expected


def pair(**tensors: torch.Tensor) -> Batch:
    """Two completions of one prompt, of two tokens and one, scored 1 and 0 by term 0."""
    given = {
        "scores": torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
        "scored": torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
        "groups": torch.tensor([3, 3]),
        "old_logprobs": torch.tensor([[-1.0, -2.0], [-1.0, 5.0]]),
        "reference_logprobs": torch.tensor([[-2.0, -1.5], [-3.0, 0.0]]),
    }
    return batch_of(**given | tensors)


def column(batch: Batch, made: Estimator) -> list[float]:
    return estimate_advantages(batch, made).advantages[..., 0].flatten().tolist()


def test_rloo_takes_the_whole_completions_kl_into_its_score() -> None:
    # k1: 1 - 0.5 = 0.5 and 2; scores 1 - 0.05 = 0.95 and 0 - 0.2 = -0.2; each less the other: +-1.15
    found = column(pair(), Estimator("leave-one-out", 0.1, "none"))
    assert found == pytest.approx([1.15, 1.15, -1.15, 0.0], abs=1e-6)


def test_reinforce_plus_plus_whitens_the_reward_to_go_over_the_batch() -> None:
    # reward less the KL to come: 1 - 0.05, 1 + 0.05, 0 - 0.2; mean 0.6, deviations 0.35, 0.45, -0.8,
    # unbiased variance (0.1225 + 0.2025 + 0.64) / 2 = 0.4825, std 0.6946222
    found = column(pair(), Estimator("none", 0.1, "batch"))
    assert found == pytest.approx([0.5038710, 0.6478342, -1.1517052, 0.0], abs=1e-5)


def test_reinforce_plus_plus_with_a_baseline_whitens_what_is_above_the_groups_mean() -> None:
    # 0.5, 0.5, -0.5; mean 1/6, deviations 1/3, 1/3, -2/3, variance (1/9 + 1/9 + 4/9) / 2 = 1/3
    found = column(pair(), Estimator("group", 0.0, "batch"))
    assert found == pytest.approx([0.5773503, 0.5773503, -1.1547005, 0.0], abs=1e-6)


def test_truncated_rows_can_be_left_out_like_unscored_ones() -> None:
    batch = pair(truncated=torch.tensor([0.0, 1.0]))
    found = estimate_advantages(batch, Estimator("group", 0.0, "none", truncated="mask"))
    assert found.scored.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert found.advantages.abs().max() == 0  # one scored member is left
    assert column(batch, Estimator("group", 0.0, "none")) == pytest.approx([0.5, 0.5, -0.5, 0.0])


def test_a_cut_completion_is_worth_its_last_state_in_place_of_its_score() -> None:
    # gamma 0.5, lambda 1, values 0.2, 0.4 | 0.1; row 0 was cut, its last state is worth 0.6, its score does not count
    #   delta_1 = 0.5 * 0.6 - 0.4 = -0.1; delta_0 = 0.5 * 0.4 - 0.2 = 0; A_0 = -0.05
    # row 1 ended with 0: A = -0.1; its last state's value is not read
    batch = pair(
        truncated=torch.tensor([1.0, 0.0]),
        old_values=torch.tensor([[[0.2, 0.0], [0.4, 0.0]], [[0.1, 0.0], [9.0, 0.0]]]),
        final_values=torch.tensor([[0.6, 0.0], [7.0, 0.0]]),
    )
    found = column(batch, Estimator("value", 0.0, "none", 0.5, 1.0, truncated="bootstrap"))
    assert found == pytest.approx([-0.05, -0.1, -0.1, 0.0], abs=1e-6)


def test_overlong_rows_lose_of_their_score() -> None:
    # limit 2, margin 2, weight 0.5: two tokens cost 0.5, one token 0.25; scores 0.5 and -0.25, mean 0.125
    found = column(pair(), Estimator("group", 0.0, "none", overlong=(2, 2, 0.5)))
    assert found == pytest.approx([0.375, 0.375, -0.375, 0.0], abs=1e-6)


def test_a_teachers_term_has_every_row_of_its_stream() -> None:
    streams = {"labeled": rollouts(2), "unlabeled": rollouts(1)}
    terms = [term("verifiable", "labeled"), Term("teacher", "unlabeled", 0.5, None, object())]  # type: ignore[arg-type]
    batch = pack(*flatten(streams), 2, torch.device("cpu"))
    found = place_scores(batch, streams, {("verifiable", "labeled"): [Score(1.0), Score(None, "")]}, terms)
    assert found.scored.tolist() == [[1, 0], [0, 0], [0, 1]]
