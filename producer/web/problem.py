"""Every error of the API as RFC 9457 problem details: what happened, and what to do."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818  # RFC 9457 calls it so
    """Ends a request with problem details.

    Attributes:
        status: of the answer.
        detail: one line that names the thing that is wrong.
        remedy: one line that says what to do.
        retry_after_s: seconds after which the same request may go well; None if it never will.
    """

    def __init__(self, status: int, detail: str, remedy: str = "", *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.remedy = remedy
        self.retry_after_s = retry_after_s

    def response(self, *, close: bool = False) -> JSONResponse:
        """The answer. ``close`` ends the connection: the rest of the request's body is not read."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "remedy": self.remedy,
        }
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="ocrfleet"'
        if close:
            headers["Connection"] = "close"
        return JSONResponse(body, self.status, headers, media_type=MEDIA_TYPE)


def no_such_job(job: str) -> Problem:
    """For a job that this service does not hold."""
    return Problem(404, f"there is no job {job} here", "see GET /api/v1/jobs; jobs are removed when their time is up")


def quota_is_used(quota_mb: int) -> Problem:
    """413: the service's folder may not grow."""
    return Problem(413, f"the quota of {quota_mb} MiB is used up", "delete finished jobs", retry_after_s=600)
