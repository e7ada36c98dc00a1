"""An OpenAI-compatible endpoint as a writer: requests side by side, failures tried again with back-off.

What is left out: streaming, and anything but chat completions.
"""

import email.utils
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from litereason.books.writers import TRIES, Request, most_tokens, tidy
from litereason.console import say
from litereason.errors import ConfigError, EndpointError
from litereason.extras import need

PASSING = frozenset((408, 409, 425, 429))  # and all of 5xx: another try may work
UNFIT = frozenset((400, 422))  # the request is not what this model takes
LONGEST_WAIT = 600.0  # seconds, whatever the endpoint asks for
THOUGHTS = 2048  # tokens on top, for models that think before they write


class PassingError(Exception):
    """A failure that another try may not meet; `after` is the seconds that the endpoint asks to wait."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class EndpointWriter:
    """A model behind `URL/chat/completions`."""

    def __init__(
        self,
        url: str,
        model: str,
        key_variable: str = "OPENAI_API_KEY",
        temperature: float = 0.3,
        batch_size: int = 8,
        context: int | None = None,
        timeout: float = 120.0,
        options: dict[str, Any] | None = None,
        first_wait: float = 1.0,
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            url: up to and with the version, e.g. `http://localhost:8000/v1`.
            model: the name that the endpoint knows it by.
            key_variable: environment variable that holds the key; it may be absent.
            batch_size: requests at the same time.
            context: tokens of prompt and answer together; default 8192.
            timeout: seconds without an answer.
            options: more fields of each request, or others in place of those that are sent; None leaves
                one out.
            first_wait: seconds before the second try; each later wait is twice as long.

        Raises:
            ConfigError: no such URL.
        """
        self.httpx = need("httpx2", "books")
        self.tenacity = need("tenacity", "books")
        self.url = url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"--endpoint is {url!r}; expected a URL such as http://localhost:8000/v1"
            )
        self.key_variable, self.batch_size = key_variable, batch_size
        self.context, self.timeout, self.first_wait = context or 8192, timeout, first_wait
        self.retries = 0
        # Not the URL: the same model behind another port gives the same answers.
        self.identity = {"model": model, "temperature": temperature, **(options or {})}
        self._stopped = threading.Event()

    def count(self, text: str) -> int:
        """A safe estimate: English takes more than four characters a token."""
        return len(text) // 3 + 1

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, str]]:
        """Ask for all; answers come as they are done.

        When one fails for good, those under way are still waited for and given out, so that none is lost.

        Raises:
            ConfigError: the endpoint refuses (key, model, request).
            EndpointError: it does not answer, or with no text, after all tries.
        """
        self._stopped.clear()
        failed: Exception | None = None
        key = os.environ.get(self.key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with (
            self.httpx.Client(timeout=self.timeout, headers=headers) as client,
            ThreadPoolExecutor(self.batch_size) as pool,
        ):
            jobs = {pool.submit(self._ask, client, r): i for i, r in enumerate(requests)}
            try:
                for job in as_completed(jobs):
                    if job.cancelled():
                        continue
                    if error := job.exception():
                        failed = failed or error  # pyright: ignore[reportAssignmentType]
                        self._stop(jobs)
                    else:
                        yield jobs[job], job.result()
            finally:
                self._stop(jobs)
        if failed:
            raise failed

    def _stop(self, jobs: Any) -> None:
        self._stopped.set()  # wakes those who wait for another try
        for job in jobs:
            job.cancel()

    def _ask(self, client: Any, request: Request) -> str:
        tenacity = self.tenacity
        backoff = tenacity.wait_exponential_jitter(self.first_wait, max=60, jitter=self.first_wait)

        def wait(state: Any) -> float:
            after = state.outcome.exception().after
            return backoff(state) if after is None else min(after, LONGEST_WAIT)

        def note(state: Any) -> None:
            self.retries += 1
            seconds = state.next_action.sleep
            if seconds >= 5:
                say(f"{request.about}: {state.outcome.exception()}; again in {seconds:.0f} s")

        again = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(PassingError),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(TRIES), tenacity.stop_when_event_set(self._stopped)
            ),
            wait=wait,
            sleep=tenacity.sleep_using_event(self._stopped),
            before_sleep=note,
            reraise=True,
        )
        try:
            return again(self._once, client, request)
        except PassingError as error:
            raise EndpointError(
                f"{request.about}: {self.url} failed {TRIES} times, at last with: {error}. What was "
                "written is kept: the same command goes on from here"
            ) from error

    def _once(self, client: Any, request: Request) -> str:
        """One try.

        Raises:
            PassingError: another try may work.
            ConfigError: none will.
        """
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": request.prompt}],
            "max_tokens": most_tokens(request.words) + THOUGHTS,
            **self.identity,
        }
        sent = {name: value for name, value in body.items() if value is not None}
        try:
            answer = client.post(self.url, json=sent)
        except self.httpx.RequestError as error:
            what = str(error) or type(error).__name__
            if isinstance(error, self.httpx.TimeoutException):
                what = f"no answer within {self.timeout:g} s"
            raise PassingError(what) from error
        except self.httpx.InvalidURL as error:
            raise ConfigError(f"--endpoint makes no URL: {error}") from error
        said = answer.text[:200]
        if answer.status_code in PASSING or answer.status_code >= 500:
            after = _seconds(answer.headers.get("Retry-After"))
            raise PassingError(f"status {answer.status_code} ({said})", after)
        if answer.status_code != 200:
            advice = f"Check --endpoint, --endpoint_model and the key in ${self.key_variable}"
            if answer.status_code in UNFIT:
                advice = (
                    f"It was sent {', '.join(sent)}; --endpoint_options.NAME VALUE changes a field or adds "
                    "one, and null leaves one out"
                )
            raise ConfigError(
                f"{self.url} refuses: status {answer.status_code} ({_reason(answer)}). {advice}"
            )
        try:
            choice = answer.json()["choices"][0]
            text, why = choice["message"]["content"], choice.get("finish_reason")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise PassingError(f"an answer that is no chat completion ({said!r})") from error
        written = tidy(text, why == "length") if isinstance(text, str) else ""
        if not written:
            raise PassingError(f"an answer without text (finish_reason {why!r})")
        return written


def _reason(answer: Any) -> str:
    """What an endpoint says of a refusal: its error's message, or the beginning of its answer."""
    try:
        said = answer.json()["error"]["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        said = None
    return said if isinstance(said, str) else answer.text[:200]


def _seconds(after: str | None) -> float | None:
    """What a Retry-After header asks for: seconds, or a date."""
    if after is None:
        return None
    try:
        return max(0.0, float(after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
