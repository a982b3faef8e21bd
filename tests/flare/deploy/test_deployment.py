"""A deployment is shut down although its server reports errors."""

from nvflare.fuel.flare_api.api_spec import InternalError

from fedrlvr.flare.deploy.deployment import _shut_down


def test_a_job_that_died_with_an_earlier_server_does_not_prevent_a_shutdown():
    calls = []

    class Session:
        def list_jobs(self):
            return [{"job_id": "j-1", "status": "RUNNING"}, {"job_id": "j-2", "status": "FINISHED:COMPLETED"}]

        def abort_job(self, job):
            calls.append(job)
            raise InternalError(f"Job {job} is not running.")

        def shutdown(self, target, wait):
            calls.append(target)

    _shut_down(Session())
    assert calls == ["j-1", "all"]
