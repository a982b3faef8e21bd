"""Where what is logged goes while a run takes place in this process, and afterwards."""

import logging

from tests.runs import spec_of

from fedrlvr.launch.local import LocalRun


def test_a_run_in_this_process_takes_its_log_and_gives_it_back(site_files, job, tmp_path, caplog):
    _, configs = site_files({"site-1": ("A",)})
    logger = logging.getLogger("fedrlvr.site.agent")
    run = LocalRun(tmp_path / "run", spec_of(job, configs), configs)
    with caplog.at_level(logging.ERROR):
        logger.info("within")
        run.close()
        logger.info("not said any more")
        logger.error("afterwards")
    (line,) = run.log_path.read_text().splitlines()
    assert line.endswith("fedrlvr.site.agent - INFO - within")
    assert [record.message for record in caplog.records] == ["afterwards"]
