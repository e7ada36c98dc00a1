"""A task of your own: which day of the week comes N days after another?

litereason collect --model MODEL --task examples/my_task.py:CalendarTask --demonstrations
litereason rl      --model MODEL --task examples/my_task.py:CalendarTask --mode latent
litereason eval    --model MODEL --task examples/my_task.py:CalendarTask --mode latent
"""

from litereason.tasks import Example, Task
from litereason.tasks.wording import AT_ONCE, SILENT, boxed

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
HOW = {"plain": "Think step by step.", "latent": f"Think step by step. {SILENT}", "direct": AT_ONCE}


class CalendarTask(Task):
    """Options are keywords of the constructor: `--task_options.furthest 1000`."""

    name = "calendar"

    def __init__(self, furthest: int = 100) -> None:
        self.furthest = furthest

    def examples(self, split: str, limit: int | None = None) -> list[Example]:
        """Every fifth distance is for testing: no question stands in both splits."""
        far = [n for n in range(8, self.furthest) if (n % 5 == 0) == (split == "test")]
        found = [self.example(day, n) for n in far for day in range(7)]
        return found[:limit]

    def example(self, day: int, n: int) -> Example:
        text = f"Today is {DAYS[day]}. Which day of the week is it in {n} days?"
        return Example(f"{DAYS[day]}+{n}", text, DAYS[(day + n) % 7], {"day": day, "n": n})

    def prompt(self, example: Example, mode: str = "plain") -> str:
        return f"{example.text} {HOW[mode]} End with the day in \\boxed{{}}."

    def reward(self, example: Example, completion: str) -> float:
        return float(boxed(completion) == example.answer)

    def metrics(self, example: Example, completion: str) -> dict[str, float | None]:
        return {"is_a_day": float(boxed(completion) in DAYS)}

    def demonstration(self, example: Example) -> str:
        day, n = example.fields["day"], example.fields["n"]
        weeks = f"{n} days are {n // 7} weeks and {n % 7} days. Whole weeks change nothing."
        count = f"{n % 7} days after {DAYS[day]} it is {example.answer}."
        return f"{weeks} {count} \\boxed{{{example.answer}}}"
