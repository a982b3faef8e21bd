"""What libraries say to each other's programmers is not for a command's user."""

import logging
import warnings


def quiet() -> None:
    """To be called before these libraries are imported: some speak then."""
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)  # it sets its own level
    import transformers

    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
