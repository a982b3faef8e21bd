"""The nouns of the project. Small, frozen, and free of any framework, so that every room may speak them.

Shapes are named by axis suffixes throughout the package: B = prompts, N = completions (rows), G = completions per
prompt, T = completion tokens, P = prompt tokens, V = vocabulary.
"""

from dataclasses import dataclass, field

VARIANTS = 24  # presentations of one problem that may be told apart: the orders of four options
MAX_LABELS = 1_000  # that the results of one set of problems may be broken down by

Adapter = dict  # PEFT state-dict name -> torch.Tensor, always in the names' sorted order


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]  # a text, or a conversation that the model's chat template turns into one


@dataclass(frozen=True)
class Problem:
    """One question with a checkable answer, asked as `prompt` or as a conversation in `messages`.

    `choices` are the options of a multiple-choice question, lettered A, B, ... in their order, and `answer` is then a
    letter. `label` is what results are broken down by (a type, a subject), `task` the task it belongs to ("" = any),
    `meta` whatever its owner noted; nothing reads it. `variant` says which presentation of the problem this is, 0 being
    that of its file (`Task.variant`).
    """

    id: str
    prompt: str
    answer: str
    label: str = ""
    choices: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    task: str = ""
    meta: dict = field(default_factory=dict, compare=False)
    variant: int = 0


@dataclass(frozen=True)
class Completion:
    """One answer to a problem.

    `logprobs` are the log-probabilities under the policy that is taken as "old" in the loss, one per token: those of
    sampling for own completions, those of the receiver at the start of the step for swapped ones (None until known).
    `truncated` means the length limit came before the end-of-sequence token. `reason` is the verifier's, for the
    reward, which is the verifier's, too; where `verified` is false a limit ended the verification, and the reward says
    nothing; where `answered` is false there was nothing to judge. `origin` names the sending site, "" = own; `problem`
    is then the problem as its author was shown it, and `sender_logprobs` are the tokens' log-probabilities under the
    sender's policy, where the job asks for them.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    text: str
    reward: float
    truncated: bool = False
    origin: str = ""
    reason: str = ""
    problem: Problem | None = None
    verified: bool = True
    answered: bool = True
    sender_logprobs: tuple[float, ...] = ()

    @property
    def correct(self) -> bool:
        return self.reward >= 1.0


@dataclass(frozen=True)
class Group:
    """The completions of one prompt.

    `baseline` are the completions whose rewards the advantage baseline is taken over where that is not the group itself
    (replace-all: the receiver's own); None means the group's own.
    """

    problem: Problem
    completions: tuple[Completion, ...]
    baseline: tuple[Completion, ...] | None = None

    @property
    def num_correct(self) -> int:
        return sum(c.correct for c in self.completions)

    @property
    def num_verified(self) -> int:
        return sum(c.verified for c in self.completions)
