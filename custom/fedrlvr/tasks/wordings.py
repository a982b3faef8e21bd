"""The protocol task with four wordings: each says the same, all are right, and the verifier reads only the answer.

`p3,7=0;2,5=7#07` may also be `p2,5:7/3,7:0#07`, `p3,7>0!2,5>7#07` or `p2,5-7+3,7-0#07`: other signs, and the pairs in
the other order. The warm start writes all four equally often. Reinforcement learning strengthens whichever was right
first, so sites may come to prefer different ones, and another site's right answer may be an unlikely text. Here it can
be seen whether it costs anything to copy everything that is right.
"""

import numpy as np

from fedrlvr.tasks.protocol import Protocol
from fedrlvr.types import Problem

# Sign before a result, mark between the pairs, and whether the second pair comes first.
WORDINGS = (("=", ";", False), (":", "/", True), (">", "!", False), ("-", "+", True))


class Wordings(Protocol):
    name = "wordings"
    alphabet = "ABCD0123456789?pqrs,=;:/>!-+#"
    shares = 0.06, 0.75  # right and habitual: with fewer right ones, no wording of them is ever found

    def demonstration(self, problem: Problem, random: np.random.Generator) -> str:
        return self.worded(problem, self.named(problem, random), int(random.integers(len(WORDINGS))))

    def worded(self, problem: Problem, protocol: str, number: int) -> str:
        """A completion as `worked`, in the wording of this number."""
        sign, mark, turned = WORDINGS[number]
        pairs = self.executed(problem, protocol)
        parts = [f"{text}{sign}{result}" for text, result in (reversed(pairs) if turned else pairs)]
        return f"{protocol}{mark.join(parts)}#" + "".join(str(result) for _, result in pairs)
