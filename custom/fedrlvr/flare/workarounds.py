"""What becomes of a job when one site's FLARE process dies: the others go on, as our own quorum decides."""

from __future__ import annotations

from pathlib import Path

from nvflare.apis.fl_constant import FLContextKey, FLMetaKey
from nvflare.apis.fl_context import FLContext


def leave_the_job_alone(fl_ctx: FLContext) -> None:
    """Say beforehand how this process ended, should it be killed before it can: well, as far as the job is concerned.

    FLARE would otherwise end the whole job when one site's process is killed (by the kernel, for memory, say), however
    many sites it could do without. Its monitor writes the true code over this when the process ends by itself. The file
    is FLARE's own and private to it; a test holds that it works with the pinned version.
    """
    if not fl_ctx.get_prop(FLContextKey.SIMULATE_MODE, False):
        run_dir = Path(fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id()))
        (run_dir / FLMetaKey.PROCESS_RC_FILE).write_text("0")
