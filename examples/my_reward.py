"""A reward in TRL's signature, for rows without a task of their own.

litereason rl --model MODEL --data examples/my_rows.jsonl --reward examples/my_reward.py:one_word_is_right
"""

import re


def one_word_is_right(completions: list[str], answer: list[str], **columns: list) -> list[float]:
    """1 for the answer as the last word, half for the answer anywhere."""
    rewards = []
    for text, right in zip(completions, answer, strict=True):
        words = re.findall(r"\w+", text.lower())
        rewards.append(1.0 if words[-1:] == [right] else 0.5 * (right in words))
    return rewards
