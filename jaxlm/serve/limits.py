"""What the server takes, and how it says no. In: the command's options. Out: `Limits`, and `Refusal`s beyond them."""

import dataclasses
import threading
import time

from jaxlm.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of what one process takes on; each is an option of `jaxlm serve`."""

    queue: int = 512  # requests under way at once; more are refused with 429
    body: int = 8 << 20  # bytes of a request
    texts: int = 2048  # of a request, and prompts
    seconds: float = 120.0  # that a request may take
    sending: float = 10.0  # seconds in which a client must have sent its request
    batch: int = 32  # rows that are computed together
    wait: float = 0.002  # seconds that a row waits for others of its length
    rows: int = 8  # texts that are written at once
    room: int = 2048  # tokens of a prompt and its answer, of texts that are written at once
    drain: float = 30.0  # seconds that a stopped server gives to what it has accepted

    def validate(self) -> None:
        """UserError for the first value that cannot work."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("wait", "drain") else 1 if isinstance(field.default, int) else 0.001
            if not least <= value < float("inf"):
                raise UserError(f"--{field.name}={value}: at least {least}.")
        if self.batch & (self.batch - 1):
            raise UserError(f"--batch={self.batch}: a power of two: batches of other heights are filled up.")


class Refusal(Exception):
    """An answer that says no, and why: HTTP status, message, and the words of OpenAI's errors."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str = "",
        code: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code

    def to_json(self, form: str) -> dict:
        """In OpenAI's form, or ("plain") in that of Hugging Face and KServe."""
        if form == "plain":
            return {"error": self.message, "error_type": self.kind}
        said = {"message": self.message, "type": self.kind, "param": self.param or None}
        return {"error": said | {"code": self.code or None}}


class NotFinite(Refusal):
    """What a model says has NaN or infinity in it."""

    def __init__(self, model: str) -> None:
        super().__init__(
            500,
            f"{model} says NaN or infinity: its weights are damaged, or the precision does not suffice.",
            kind="server_error",
            code="not_finite",
        )


def busy(what: str, seconds: int = 1) -> Refusal:
    """429: the client may come again in so many seconds."""
    return Refusal(429, f"{what} Try again in {seconds} s.", kind="rate_limit_error", code="busy")


class Asked:
    """One request under way: until when, whether its client is still there, and what it cost."""

    def __init__(self, seconds: float = 3600.0) -> None:
        self.since = time.monotonic()
        self.until = self.since + seconds
        self.gone = threading.Event()  # set when nobody waits any longer
        self.read = 0  # tokens of texts
        self.written = 0  # tokens made
        self.begun = False  # whether there is a first one
        self.model = ""

    @property
    def over(self) -> bool:
        """Whether an answer would come too late."""
        return self.gone.is_set() or time.monotonic() > self.until
