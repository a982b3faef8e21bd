"""A model's tokenizer, and a prompt's tokens: by the model's chat template where it has one, else as plain text."""

from pathlib import Path

from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from fedrlvr.config import PromptSettings
from fedrlvr.types import Message, Prompt

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


class PromptError(ValueError):
    """A prompt that cannot become tokens. The message never quotes the prompt."""


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a local directory, without the network and without code from the directory. Raises ValueError
    if there is none, or transformers cannot read it."""
    # Without these files transformers would make an empty tokenizer of the architecture's usual class.
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise ValueError(f"{path}: holds no tokenizer; expected {TOKENIZER_FILES[0]} (save_pretrained writes it)")
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each library that may read the file has its own exceptions
        raise ValueError(f"{path}: its tokenizer cannot be read: {brief(error)}") from None


def brief(error: Exception) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, settings: PromptSettings) -> tuple[int, ...]:
    """The token ids of a prompt, up to where the model's answer begins.

    A text becomes the user's only turn. Without a template, the turns of a conversation become paragraphs. The
    settings' system prompt comes first, unless the conversation begins with its own. Raises PromptError for text that
    the tokenizer would read as one of its control tokens, and a conversation that the template refuses or leaves out.
    """
    messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    if settings.system_prompt and messages[0].role != "system":
        messages = (Message("system", settings.system_prompt), *messages)
    _check_no_control_tokens(tokenizer, messages)
    if not templated(tokenizer, settings):
        text = "\n\n".join(message.content for message in messages)
        return _without_end(tokenizer, tokenizer(text, add_special_tokens=True).input_ids)
    text = _rendered(tokenizer, messages, settings, add_generation_prompt=True)
    _check_shown(tokenizer, messages, text)
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)  # the template wrote the special tokens itself


def templated(tokenizer: PreTrainedTokenizerBase, settings: PromptSettings) -> bool:
    return settings.chat_template == "auto" and bool(tokenizer.chat_template)


def end_ids(tokenizer: PreTrainedTokenizerBase, configured: set[int], settings: PromptSettings) -> tuple[int, ...]:
    """All tokens that end a completion, () if there are none; `configured` are those of the model's generation config.

    The first is the end of a well-formed answer: the token that closes an assistant's turn in the chat template, which
    the configuration of a base model often lacks, or without one the tokenizer's end-of-sequence token.
    """
    ids = configured | ({tokenizer.eos_token_id} - {None})
    first = tokenizer.eos_token_id
    closing = _closing_token(tokenizer, settings, ids) if templated(tokenizer, settings) else None
    if closing is not None:
        first, ids = closing, ids | {closing}
    return tuple(sorted(ids, key=lambda token: (token != first, token)))


def _closing_token(tokenizer, settings: PromptSettings, ends: set[int]) -> int | None:
    """The first token behind an assistant's text in the template that is an added one or one of `ends`."""
    answer = "fedrlvr"
    rendered = _rendered(tokenizer, (Message("user", "?"), Message("assistant", answer)), settings)
    _, shown, rest = rendered.rpartition(answer)
    # Some families have runs of blanks as added tokens.
    added = {token for token, one in tokenizer.added_tokens_decoder.items() if one.content.strip()}
    tokens = tokenizer(rest, add_special_tokens=False).input_ids if shown else []
    return next((token for token in tokens if token in added | ends), None)


def _without_end(tokenizer, ids: list[int]) -> tuple[int, ...]:
    """Without the end-of-sequence token that some tokenizers append to every text: the answer has yet to come."""
    while ids and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    return tuple(ids)


def _rendered(
    tokenizer, messages: tuple[Message, ...], settings: PromptSettings, add_generation_prompt: bool = False
) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=add_generation_prompt, **settings.chat_template_kwargs
        )
    except TemplateError as error:
        raise PromptError(
            f"the model's chat template refuses a conversation of {[m.role for m in messages]}: {error}; "
            "change prompt.system_prompt or the problem's messages, or set prompt.chat_template: never"
        ) from None


def _check_shown(tokenizer, messages: tuple[Message, ...], text: str) -> None:
    """What was said must be in what the template rendered. An assistant's earlier turns may lose their reasoning."""
    for message in messages:
        if message.role != "assistant" and message.content.strip() not in text:
            raise PromptError(
                f"the chat template of {Path(tokenizer.name_or_path).name} leaves out the text of the {message.role}'s "
                "turn; set prompt.chat_template: never, or give the model a template that shows plain text"
            )


def _check_no_control_tokens(tokenizer, messages: tuple[Message, ...]) -> None:
    # A released tokenizer often lists only a few of them in all_special_tokens; its vocabulary marks all as special.
    marked = {added.content for added in tokenizer.added_tokens_decoder.values() if added.special}
    for token in sorted(marked.union(tokenizer.all_special_tokens)):
        if any(token in message.content for message in messages):
            raise PromptError(
                f"a prompt contains {token!r}, which this model reads as a control token; reword the problem"
            )
