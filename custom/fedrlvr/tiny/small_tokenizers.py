"""Small tokenizers: one token per character, or byte-level BPE with the chat format of a model family."""

from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class ChatStyle:
    """How a model family writes a conversation.

    `turn` is the text around ROLE and CONTENT; `answer` the text before the model's answer, where that is not what its
    turn begins with. `end_turn`, `eos` and `bos` are the tokens that end a turn, end the text and begin it; `control`
    are further tokens; `assistant` is the name of the assistant's role.
    """

    turn: str
    end_turn: str
    eos: str
    answer: str | None = None
    bos: str | None = None
    control: tuple[str, ...] = ()
    assistant: str = "assistant"

    @property
    def template(self) -> str:
        """The Jinja template that `apply_chat_template` renders."""
        role = f"('{self.assistant}' if message['role'] == 'assistant' else message['role'])"
        turn = self.turn.replace("ROLE", "{{ " + role + " }}").replace("CONTENT", "{{ message['content'] | trim }}")
        begins = self.turn.partition("CONTENT")[0].replace("ROLE", self.assistant)
        answer = begins if self.answer is None else self.answer
        begin = "{{ bos_token }}" if self.bos else ""
        turns = "{% for message in messages %}" + turn + "{% endfor %}"
        return begin + turns + "{% if add_generation_prompt %}" + answer + "{% endif %}"


CHAT_STYLES = {
    "chatml": ChatStyle(
        turn="<|im_start|>ROLE\nCONTENT<|im_end|>\n",
        end_turn="<|im_end|>",
        eos="<|im_end|>",
        control=("<|im_start|>",),
    ),
    "llama3": ChatStyle(
        turn="<|start_header_id|>ROLE<|end_header_id|>\n\nCONTENT<|eot_id|>",
        end_turn="<|eot_id|>",
        eos="<|eot_id|>",
        bos="<|begin_of_text|>",
        control=("<|start_header_id|>", "<|end_header_id|>"),
    ),
    "mistral": ChatStyle(
        turn="{% if message['role'] == 'assistant' %} CONTENT</s>{% else %}[INST] CONTENT[/INST]{% endif %}",
        answer="",
        end_turn="</s>",
        eos="</s>",
        bos="<s>",
        control=("[INST]", "[/INST]"),
    ),
    "gemma": ChatStyle(
        turn="<start_of_turn>ROLE\nCONTENT<end_of_turn>\n",
        end_turn="<end_of_turn>",
        eos="<eos>",
        bos="<bos>",
        control=("<start_of_turn>",),
        assistant="model",
    ),
    "phi": ChatStyle(
        turn="<|ROLE|>\nCONTENT<|end|>\n",
        end_turn="<|end|>",
        eos="<|endoftext|>",
        control=("<|system|>", "<|user|>", "<|assistant|>"),
    ),
}


def chat_tokenizer(texts: Iterable[str], style: str, vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `vocabulary` tokens, trained on `texts`, with one of `CHAT_STYLES`. It can encode any text."""
    chat = CHAT_STYLES[style]
    special = ["<pad>", *dict.fromkeys(filter(None, [chat.bos, chat.eos, chat.end_turn, *chat.control]))]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if chat.bos:
        begin = (chat.bos, tokenizer.token_to_id(chat.bos))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{chat.bos} $A", special_tokens=[begin])
    others = [token for token in special if token not in ("<pad>", chat.bos, chat.eos)]
    control = {"bos_token": chat.bos, "eos_token": chat.eos, "additional_special_tokens": others}
    return _padded_left(tokenizer, **control, chat_template=chat.template)


def character_tokenizer(alphabet: str) -> PreTrainedTokenizerFast:
    """One token per character; `<pad>` and `<eos>` are special, and no text is encoded as one of them."""
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", "<unk>", *dict.fromkeys(alphabet)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return _padded_left(tokenizer, eos_token="<eos>", unk_token="<unk>")


def _padded_left(tokenizer: Tokenizer, **options) -> PreTrainedTokenizerFast:
    fixed = {"pad_token": "<pad>", "padding_side": "left", "clean_up_tokenization_spaces": False}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **fixed, **options)
