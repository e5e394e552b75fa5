"""What PEFT says: whole texts, without a cache for what is only read, in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from alora_cpp.labelled_data import LabelledExample

_TOKENS_PER_BATCH = 8192


@dataclass(frozen=True)
class Said:
    """An answer.

    Attributes:
        text: What was said.
        probabilities: Of all answers that could be said, adding up to 1; empty where the answer is a text of its own.
    """

    text: str
    probabilities: Mapping[str, float] = field(default_factory=dict)


class PeftIntrinsics:
    """A base model and its tokenizer, on which adapters are put one after the other."""

    def __init__(self, base: Path, threads: int) -> None:
        """Loads a folder of transformers; no threads mean torch's own number."""
        if threads:
            torch.set_num_threads(threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
        self._base = model.to(device).eval()

    def answers(
        self,
        adapter: Path,
        examples: Sequence[LabelledExample],
        choices: Sequence[str],
        max_tokens: int,
        progress: Callable[[float], None],
    ) -> list[Said]:
        """What an adapter says of each example.

        Args:
            adapter: A PEFT folder.
            examples: The conversations.
            choices: All answers that it can give, or none where it writes text.
            max_tokens: The longest text.
            progress: Called with the share that is done.
        """
        model = PeftModel.from_pretrained(self._base, adapter).eval()
        try:
            invocation = model.peft_config["default"].alora_invocation_tokens
            prompts = [[*self._conversation(example), *invocation] for example in examples]
            with torch.inference_mode():
                if choices:
                    return self._scored(model, prompts, choices, progress)
                return self._written(model, prompts, max_tokens, progress)
        finally:
            self._base = model.unload()

    def _conversation(self, example: LabelledExample) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            list(example.messages), documents=list(example.documents), tokenize=False, add_generation_prompt=False
        )
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _scored(
        self, model: PeftModel, prompts: list[list[int]], choices: Sequence[str], progress: Callable[[float], None]
    ) -> list[Said]:
        spelled = [tuple(self._tokenizer(choice, add_special_tokens=False)["input_ids"]) for choice in choices]
        # A text's logits tell all that could be its last token: answers that differ there only are one text.
        begun = list(dict.fromkeys(one[:-1] for one in spelled))
        if any(len(one) > len(other) and one[: len(other)] == other for one in spelled for other in spelled):
            raise ValueError(f"one of the answers {', '.join(choices)} begins another one: they exclude no other")
        found = []
        done = 0
        scores = torch.zeros(len(prompts), len(choices), dtype=torch.float64)
        for group in _groups([len(prompt) for prompt in prompts]):
            for beginning in begun:
                ends = [(column, one) for column, one in enumerate(spelled) if one[:-1] == beginning]
                logits = self._last_logits(model, [[*prompts[i], *beginning] for i in group], len(beginning) + 1)
                for column, one in ends:
                    for step, token in enumerate(one):
                        scores[group, column] += logits[:, step, token]
            done += len(group)
            progress(done / len(prompts))
        for row in torch.softmax(scores, dim=-1).tolist():
            shares = dict(zip(choices, row, strict=True))
            found.append(Said(max(shares, key=shares.__getitem__), shares))
        return found

    def _last_logits(self, model: PeftModel, texts: Sequence[Sequence[int]], count: int) -> torch.Tensor:
        """Log-probabilities [texts, count, vocabulary] behind the last tokens of each text."""
        device, width = self._base.device, max(len(text) for text in texts)
        # Filled up on the right, where nothing before looks.
        ids = torch.tensor([[*text, *[self._tokenizer.pad_token_id] * (width - len(text))] for text in texts])
        last = torch.tensor([[len(text) - count + step for step in range(count)] for text in texts])
        columns = torch.unique(last)
        logits = model(input_ids=ids.to(device), use_cache=False, logits_to_keep=columns.to(device)).logits
        places = torch.searchsorted(columns, last).to(device)
        chosen = logits[torch.arange(len(texts), device=device)[:, None], places]
        return torch.log_softmax(chosen.double(), dim=-1).cpu()

    def _written(
        self, model: PeftModel, prompts: list[list[int]], max_tokens: int, progress: Callable[[float], None]
    ) -> list[Said]:
        found: dict[int, Said] = {}
        pad = self._tokenizer.pad_token_id
        options = GenerationConfig(
            do_sample=False, max_new_tokens=max_tokens, pad_token_id=pad, eos_token_id=self._tokenizer.eos_token_id
        )
        for group in _groups([len(prompt) for prompt in prompts]):
            width = max(len(prompts[i]) for i in group)
            ids = torch.tensor([[*[pad] * (width - len(prompts[i])), *prompts[i]] for i in group])
            read = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in group])
            device = self._base.device
            output = model.generate(input_ids=ids.to(device), attention_mask=read.to(device), generation_config=options)
            for i, row in zip(group, output[:, width:].tolist(), strict=True):
                found[i] = Said(self._tokenizer.decode(row, skip_special_tokens=True))
            progress(len(found) / len(prompts))
        return [found[i] for i in range(len(prompts))]


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions in groups of like length, as many as fit into a batch."""
    group: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[position] > _TOKENS_PER_BATCH:
            yield group
            group = []
        group.append(position)
    if group:
        yield group
