"""Training-free decodings against loops that can be checked by eye, and completions with a prefix."""

import math

import pytest
import torch

import architectures
import litereason
import naive
from conftest import random_llama
from litereason.baselines import decoding_of
from litereason.baselines.base import latent_steps
from litereason.baselines.mixture_of_inputs import Mixture
from litereason.baselines.soft_thinking import SoftProjector, SoftThinking, Think, first_tokens
from litereason.cli import main
from litereason.errors import ConfigError, DataError, LatentError
from litereason.files import read_json, read_jsonl
from litereason.model import backbone, has_latents
from litereason.sampling import SamplingConfig, check_lengths, decoding, generate_batch, prefix_ids

LATENT, EOS, NEW = 4, 2, 24
PROMPTS = [
    [1, 8, 9, 10, 11, 12],
    [1, 20],
    [1, 30, 7, 31],
    [1, 9, 9, 9, 9],
]  # uneven: left-padded in a batch
TEMPERATURE = 0.8


def mixed(model, chances: torch.Tensor, token: int, beta: float) -> torch.Tensor:
    """The formula of arXiv 2505.14827, term by term."""
    spread = -sum(p * math.log(p) for p in chances.tolist() if p > 0) / math.log(len(chances) - 1)
    embeddings = model.get_input_embeddings().weight
    total = torch.zeros_like(embeddings[0])
    for i, p in enumerate(chances.tolist()):
        weight = (spread * p + (beta + 1 - spread) * (i == token)) / (beta + 1)
        total = total + weight * embeddings[i]
    return total


def soft(model, chances: torch.Tensor, how: SoftThinking) -> torch.Tensor:
    """The mean of arXiv 2505.15778 over the most probable tokens."""
    ranked = sorted(enumerate(chances.tolist()), key=lambda pair: -pair[1])[: how.k]
    kept = [(i, p) for i, p in ranked if p >= how.min_p * ranked[0][1]]
    embeddings = model.get_input_embeddings().weight
    return sum(p * embeddings[i] for i, p in kept) / sum(p for _, p in kept)  # pyright: ignore[reportReturnType]


class Loop:
    """One sequence, no cache, no batch: `given` are the ids that sampling drew, or None for greedy."""

    def __init__(self, model, prompt: list[int], temperature: float, given: list[int] | None):
        embedding = model.get_input_embeddings()
        self.model, self.temperature, self.given = model, temperature or 1.0, given
        self.inputs = [embedding(torch.tensor(i)) for i in prompt]
        self.made: list[int] = []
        self.logits: list[torch.Tensor] = []

    def look(self) -> torch.Tensor:
        """The distribution of the next token."""
        hidden = naive.hidden_of(self.model, torch.stack(self.inputs))[-1]
        logits = self.model.lm_head(hidden)
        logits[LATENT] = -torch.inf
        self.logits.append(logits)
        return (logits / self.temperature).softmax(-1)

    def draw(self, chances: torch.Tensor) -> int:
        return self.given[len(self.made)] if self.given else int(chances.argmax())

    def add(self, token: int, embedding: torch.Tensor) -> None:
        self.made.append(token)
        self.inputs.append(embedding)

    def more(self) -> bool:
        new = len(self.given) if self.given else NEW
        return len(self.made) < new and (not self.made or self.made[-1] != EOS)


@torch.no_grad()
def naive_mixture(model, prompt, how, temperature=0.0, given=None) -> Loop:
    loop = Loop(model, prompt, temperature, given)
    while loop.more():
        chances = loop.look()
        token = loop.draw(chances)
        loop.add(token, mixed(model, chances, token, how.beta))
    return loop


@torch.no_grad()
def naive_soft(model, prompt, how, ends, closing=(), temperature=0.0, given=None) -> Loop:
    loop = Loop(model, prompt, temperature, given)
    embedding = model.get_input_embeddings()
    thinking, cold, steps, owed = True, 0, 0, []
    while loop.more():
        chances = loop.look()
        if thinking:
            spread = -sum(p * math.log(p) for p in chances.tolist() if p > 0)
            cold = cold + 1 if spread < how.tau else 0
            best = int(chances.argmax())
            if best in ends:
                thinking, owed = False, [best]
            elif cold >= how.patience or steps == how.max_steps:
                thinking, owed = False, list(closing)
            else:
                steps += 1
                loop.add(LATENT, soft(model, chances, how))
                continue
        token = owed.pop(0) if owed else loop.draw(chances)
        loop.add(token, embedding(torch.tensor(token)))
    return loop


def generate(model, words, prompts, how, temperature=0.0):
    """(completions cut after the end of sequence, logits of every row and step) of a batch."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    options = {"do_sample": temperature > 0, "output_logits": True, "return_dict_in_generate": True}
    if temperature:
        options |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
    torch.manual_seed(5)
    with how(model, words, temperature) as arguments:
        found = model.generate(
            ids, attention_mask=(ids != 0).long(), max_new_tokens=NEW, **options, **arguments()
        )
    rows = [row[width:].tolist() for row in found.sequences]
    rows = [row[: row.index(EOS) + 1] if EOS in row else row for row in rows]
    return rows, torch.stack(found.logits, 1)


def check(rows, logits, loops) -> None:
    for made, seen, loop in zip(rows, logits, loops, strict=True):
        assert made == loop.made
        wanted = torch.stack(loop.logits).float()
        wanted[:, LATENT] = seen[: len(made), LATENT]
        torch.testing.assert_close(seen[: len(made)], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, TEMPERATURE], ids=["greedy", "sampled"])
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_mixtures_are_those_of_the_naive_loop(words, temperature, beta):
    model, how = random_llama(words), decoding_of("mixture_of_inputs", {"beta": beta})
    rows, logits = generate(model, words, PROMPTS, how, temperature)
    loops = [
        naive_mixture(model, p, how, temperature, row if temperature else None)
        for p, row in zip(PROMPTS, rows, strict=True)
    ]
    check(rows, logits, loops)
    assert sum(map(len, rows)) > 30


def test_a_mixture_changes_what_is_said(words):
    model = random_llama(words)
    rows, _ = generate(model, words, PROMPTS, decoding_of("mixture_of_inputs", {}))
    plain = SamplingConfig(max_new_tokens=NEW, temperature=0)
    assert rows != [list(c.ids) for c in generate_batch(model, words, PROMPTS, plain)]


def test_weights_of_a_mixture_by_hand(words):
    """p = (1/2, 1/4, 1/4) over the three tokens that can be said, the second of them sampled."""
    model = random_llama(words)
    with latent_steps(model, words), torch.no_grad():
        mixture = Mixture(model, 1.0, 1.0)
        width = model.config.hidden_size
        logits = torch.full((len(words),), -torch.inf, dtype=torch.float64)
        logits[10:13] = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64).log()
        logits[LATENT] = 100.0  # never drawn, so no part of the distribution
        model.lm_head = torch.nn.Linear(width, len(words), bias=True).double()
        model.lm_head.weight.zero_()
        model.lm_head.bias.copy_(logits)
        found = mixture(torch.tensor([[11]]), torch.zeros(1, 1, width, dtype=torch.float64))
        e = model.get_input_embeddings().weight
    spread = 1.5 * math.log(2) / math.log(len(words) - 1)
    sampled = (spread * 0.25 + 2 - spread) / 2
    wanted = spread / 4 * e[10] + sampled * e[11] + spread / 8 * e[12]
    torch.testing.assert_close(found[0, 0], wanted)


def test_weights_of_a_soft_step_by_hand(words):
    """p = (.5, .3, .15, .05): k drops the last, min-p the third."""
    model = random_llama(words)
    with latent_steps(model, words), torch.no_grad():
        width = model.config.hidden_size
        logits = torch.full((len(words),), -torch.inf, dtype=torch.float64)
        logits[10:14] = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()
        model.lm_head = torch.nn.Linear(width, len(words), bias=True).double()
        model.lm_head.weight.zero_()
        model.lm_head.bias.copy_(logits)
        state = torch.zeros(2, width, dtype=torch.float64)
        e = model.get_input_embeddings().weight
        three = SoftProjector(model, SoftThinking(k=3, min_p=0.0), 1.0)(state)
        two = SoftProjector(model, SoftThinking(k=3, min_p=0.5), 1.0)(state)
        one = SoftProjector(model, SoftThinking(k=1), 1.0)(state)  # greedy decoding
    torch.testing.assert_close(one[1], e[10])
    torch.testing.assert_close(three[1], (0.5 * e[10] + 0.3 * e[11] + 0.15 * e[12]) / 0.95)
    torch.testing.assert_close(two[0], (0.5 * e[10] + 0.3 * e[11]) / 0.8)


TRAINING_FREE = ("mixture_of_inputs", "soft_thinking")  # CoLaR's has tests of its own
SOFT = {
    "ends": {"ends": (" w3", " w7", " w12", " w20")},
    "bound": {"ends": (), "max_steps": 5, "closing": " w5 w6"},
    "cold": {"ends": (), "tau": 2.3, "patience": 3, "closing": " w5"},
    "without closing": {"ends": (), "max_steps": 4, "k": 3, "min_p": 0.3},
}


@pytest.mark.parametrize("temperature", [0.0, TEMPERATURE], ids=["greedy", "sampled"])
@pytest.mark.parametrize("options", SOFT.values(), ids=SOFT)
def test_soft_thoughts_are_those_of_the_naive_loop(words, temperature, options):
    model, how = random_llama(words), SoftThinking(**options)
    rows, logits = generate(model, words, PROMPTS, how, temperature)
    ends = {*first_tokens(words, how.ends), EOS}
    closing = words(how.closing)["input_ids"]
    loops = [
        naive_soft(model, p, how, ends, closing, temperature, row if temperature else None)
        for p, row in zip(PROMPTS, rows, strict=True)
    ]
    check(rows, logits, loops)
    assert sum(row.count(LATENT) for row in rows) > 3
    assert any(row[-1] != LATENT for row in rows), "no thought ended"


@pytest.mark.parametrize("name", TRAINING_FREE)
def test_rows_of_a_batch_are_single_rows(words, name):
    model, how = random_llama(words), decoding_of(name, {})
    together, _ = generate(model, words, PROMPTS, how)
    assert together == [generate(model, words, [p], how)[0][0] for p in PROMPTS]


def scores(*rows: dict[int, float]) -> torch.Tensor:
    """Log-probabilities of 10 tokens; what a row does not name gets (almost) nothing."""
    return torch.tensor([[math.log(row.get(i, 1e-9)) for i in range(10)] for row in rows])


def test_the_cold_stop_step_by_step():
    sure, unsure, end = {5: 1.0}, {5: 0.5, 6: 0.5}, {9: 1.0}
    think = Think(SoftThinking(tau=0.1, patience=2, max_steps=4), 1.0, 1, [9], [7, 8])

    def step(*rows: dict[int, float]) -> list[int]:
        found = think(torch.zeros(len(rows), 1, dtype=torch.long), scores(*rows))
        return [int(r.argmax()) if bool(r.isinf().any()) else -1 for r in found]

    # cold, warm again, never sure, at an end
    assert step(sure, sure, unsure, unsure) == [1, 1, 1, 1]
    assert step(sure, unsure, unsure, unsure) == [7, 1, 1, 1]
    assert step(unsure, sure, unsure, end) == [8, 1, 1, 9]
    assert step(unsure, unsure, unsure, unsure) == [-1, 1, 1, -1]
    assert step(unsure, unsure, unsure, unsure) == [-1, 7, 7, -1]  # the bound of 4 steps
    assert step(unsure, unsure, unsure, unsure) == [-1, 8, 8, -1]
    assert step(unsure, unsure, unsure, unsure) == [-1, -1, -1, -1]


def test_the_temperature_counts_for_the_cold_stop():
    row = {5: 0.9, 6: 0.1}  # entropy 0.33 nats; 0.002 at temperature 0.3
    for temperature, wanted in ((1.0, 1), (0.3, 7)):
        think = Think(SoftThinking(tau=0.1, patience=1), temperature, 1, [9], [7])
        assert int(think(torch.zeros(1, 1), scores(row)).argmax()) == wanted


def test_first_tokens(words):
    assert first_tokens(words, [" w3 w4", "</think>"]) == words(" w3")["input_ids"]
    from litereason.stories.tiny import tiny_tokenizer

    tiny = tiny_tokenizer([])
    boxed = tiny("\n\\boxed{Yes}\n\\boxed{No}")["input_ids"]
    assert first_tokens(tiny, SoftThinking().ends) == sorted(boxed + tiny("</think>")["input_ids"])


@pytest.mark.parametrize("name", TRAINING_FREE)
def test_the_model_is_as_it_was(words, name):
    model = random_llama(words)
    kind, spine = type(model), type(backbone(model))
    before = model.generate(torch.tensor([PROMPTS[0]]), max_new_tokens=8, do_sample=False)
    with pytest.raises(KeyError), decoding_of(name, {})(model, words, 0.0):
        raise KeyError
    assert not has_latents(model) and type(model) is kind and type(backbone(model)) is spine
    assert not hasattr(backbone(model), "mixture")
    after = model.generate(torch.tensor([PROMPTS[0]]), max_new_tokens=8, do_sample=False)
    assert torch.equal(before, after)


@pytest.mark.parametrize("name", TRAINING_FREE)
def test_a_model_with_latent_steps_keeps_its_own(latent_llama, words, name):
    spine = backbone(latent_llama)
    projector, kind = spine.latent_projector, type(spine)
    with decoding_of(name, {})(latent_llama, words, 0.0):
        assert (spine.latent_projector is projector) == (name == "mixture_of_inputs")
    assert spine.latent_projector is projector and type(spine) is kind and has_latents(latent_llama)


def test_a_mixture_leaves_thoughts_alone(latent_llama, words):
    """Slots of tags get P(h); the tokens around them are mixed."""
    tag = words("<implicit_thought>3</implicit_thought>")["input_ids"]
    prompt = [*PROMPTS[0], *tag]
    how = decoding_of("mixture_of_inputs", {})
    rows, _ = generate(latent_llama, words, [prompt], how)
    loop, owed = Loop(latent_llama, prompt, 0.0, None), 3
    with torch.no_grad():
        while loop.more():
            if owed:
                state = naive.hidden_of(latent_llama, torch.stack(loop.inputs))[-1]
                loop.add(LATENT, latent_llama.latent_projector(state))
                owed -= 1
                continue
            chances = loop.look()
            token = loop.draw(chances)
            loop.add(token, mixed(latent_llama, chances, token, 1.0))
            owed = naive.steps_after(latent_llama, words, [*prompt, *loop.made])
    assert rows[0] == loop.made and rows[0][:3] == [LATENT] * 3


def test_tags_of_a_plain_model_are_text(words):
    """It takes latent steps where the decoding says, not where a tag happens to stand."""
    prompt = [*PROMPTS[0], *words("<implicit_thought>3</implicit_thought>")["input_ids"]]
    rows, _ = generate(random_llama(words), words, [prompt], decoding_of("mixture_of_inputs", {}))
    assert LATENT not in rows[0]


def test_the_record_of_soft_steps(words):
    options = {"ends": [], "max_steps": 5, "closing": " w5"}
    how = SamplingConfig(
        max_new_tokens=12, temperature=0, decoding="soft_thinking", decoding_options=options
    )
    for done in generate_batch(random_llama(words), words, PROMPTS[:2], how):
        assert done.latent_steps == 5 and done.thoughts == 1 and done.ids[:5] == (LATENT,) * 5
        assert done.spans[0].kind == "latent" and done.text.startswith(" w5")


def test_batches_share_a_decoding_but_no_state(words):
    model, options = random_llama(words), {"ends": [], "max_steps": 3}
    how = SamplingConfig(
        max_new_tokens=6, temperature=0, decoding="soft_thinking", decoding_options=options
    )
    with decoding(model, words, how) as arguments:
        once, again = (
            generate_batch(model, words, PROMPTS, how, None, arguments) for _ in range(2)
        )
    assert once == again and once[0].latent_steps == 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("soft", {}, "--decoding is 'soft'; expected one of"),
        (None, {"k": 3}, "without --decoding"),
        ("soft_thinking", {"beta": 1}, "decoding_options.beta is unknown to soft_thinking"),
        ("soft_thinking", {"k": "many"}, "--k is 'many'; expected int"),
        ("soft_thinking", {"k": 0}, "k is 0; expected at least 1"),
        ("soft_thinking", {"patience": 0}, "patience is 0"),
        ("soft_thinking", {"max_steps": 0}, "max_steps is 0"),
        ("soft_thinking", {"min_p": 1.5}, "min_p is 1.5"),
        ("soft_thinking", {"tau": float("nan")}, "tau is nan"),
        ("soft_thinking", {"ends": [" "]}, "not blank"),
        ("mixture_of_inputs", {"beta": -1}, "beta is -1"),
    ],
)
def test_options_that_cannot_work(name, options, message):
    with pytest.raises(ConfigError, match=message):
        SamplingConfig(decoding=name, decoding_options=options)


def test_a_prefix_is_part_of_the_completion(latent_llama, words):
    prefix = " w2<implicit_thought>3</implicit_thought> w4"
    start = prefix_ids(latent_llama, words, prefix)
    assert start.count(LATENT) == 3 and len(start) == 6
    how = SamplingConfig(max_new_tokens=7, temperature=0, max_thoughts=0, prefix=prefix)
    made = generate_batch(latent_llama, words, PROMPTS, how)
    plain = SamplingConfig(max_new_tokens=7, temperature=0, max_thoughts=0)
    alone = generate_batch(latent_llama, words, [[*p, *start] for p in PROMPTS], plain)
    for done, rest in zip(made, alone, strict=True):
        assert done.ids == (*start, *rest.ids) and done.text.startswith(prefix)
        assert done.latent_steps == 3 and done.thoughts == 1
        assert done.discrete_tokens == 3 + len(rest.ids)
        assert [span.kind for span in done.spans[:3]] == ["discrete", "tag", "latent"]


def test_a_prefix_takes_room(latent_llama, words):
    prefix = "<implicit_thought>4</implicit_thought>" * 20
    start = prefix_ids(latent_llama, words, prefix)
    assert len(start) == 100
    check_lengths(latent_llama, ["a"], [[1] * 100], 156)
    with pytest.raises(DataError, match="and 157 new ones exceed the model's context of 256"):
        check_lengths(latent_llama, ["a"], [[1] * 100], 57 + len(start))


def test_a_prefix_with_the_reserved_token(latent_llama, words):
    with pytest.raises(LatentError, match="--prefix"):
        prefix_ids(latent_llama, words, "<|latent|>")


def evaluate(base, run_dir, *more):
    options = ["--model", base, "--run_dir", run_dir, "--name", "arm", "--limit", 6]
    options += ["--samples", 2, "--batch_size", 5, "--max_new_tokens", 20, *more]
    return main(["eval", *map(str, options)])


def test_decodings_by_the_command_line(tiny_base, tmp_path):
    more = ["--decoding", "soft_thinking", "--decoding_options.max_steps", 7]
    more += ["--decoding_options.closing", " skip", "--prefix", "\n1."]
    assert evaluate(tiny_base, tmp_path / "soft", *more) == 0
    rows = read_jsonl(tmp_path / "soft" / "eval" / "arm" / "records.jsonl")
    assert len(rows) == 12 and all(row["spans"][0] == ["discrete", "\n1."] for row in rows)
    assert max(row["latent_steps"] for row in rows) == 7
    summary = read_json(tmp_path / "soft" / "eval" / "arm" / "summary.json")
    assert summary["trigger_rate"]["mean"] > 0 and "--decoding soft_thinking" in summary["command"]
    assert evaluate(tiny_base, tmp_path / "moi", "--decoding", "mixture_of_inputs") == 0
    rows = read_jsonl(tmp_path / "moi" / "eval" / "arm" / "records.jsonl")
    assert len(rows) == 12 and all(row["latent_steps"] == 0 for row in rows)


def test_room_for_a_prefix_by_the_command_line(tiny_base, tmp_path, capsys):
    assert evaluate(tiny_base, tmp_path, "--prefix", "\n1." * 600) == 2
    assert "exceed the model's context" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "family", ["Gemma", "Gemma 2", "Gemma 3 (text)", "Granite", "Cohere", "OPT"]
)
def test_models_that_scale_embeddings_or_logits(family):
    """A mixture that is nearly all the token, and a soft thought of one token, are plain greedy text."""
    model, words = architectures.make(family)
    litereason.detach(model)
    prompts = [[1, 8, 9, 10, 11, 12], [1, 20, 9, 8, 30, 21]]

    def made(decoding=None, **options):
        how = SamplingConfig(
            max_new_tokens=12, temperature=0, decoding=decoding, decoding_options=options
        )
        return [done.ids for done in generate_batch(model, words, prompts, how)]

    plain = made()
    assert max(map(len, plain)) == 12
    assert made("mixture_of_inputs", beta=1e12) == plain
    wanted = [(LATENT,) * min(4, len(row)) + row[4:] for row in plain]
    assert made("soft_thinking", k=1, ends=[], max_steps=4) == wanted
