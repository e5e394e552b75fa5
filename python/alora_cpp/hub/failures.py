"""Turns what the hub's client raises into errors that say what to do.

The client's versions use different HTTP libraries (requests, httpx, ...), so network failures are told by the base
that the client's own errors share with them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from alora_cpp.errors import HubError

# HTTPError of the client's HTTP library; with requests, all network failures are OSError.
NETWORK_FAILURES: tuple[type[BaseException], ...] = (HfHubHTTPError.__mro__[1], OSError)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class UnreachableError(HubError):
    """The hub was not asked, or did not answer: what is in the cache may still do."""


@contextmanager
def hub_errors(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turns the client's errors inside the block into ours.

    Args:
        repo: The repository asked for.
        revision: The revision asked for.

    Raises:
        UnreachableError: Offline mode, no network, or the hub is down.
        HubError: Anything else: it is not there, not allowed, or cannot be stored.
    """
    try:
        yield
    except OfflineModeIsEnabled:
        raise UnreachableError("offline mode is on (HF_HUB_OFFLINE)") from None
    except LocalEntryNotFoundError as error:
        raise UnreachableError(f"{constants.ENDPOINT} cannot be reached ({_line(error.__cause__ or error)})") from error
    except EntryNotFoundError as error:
        raise HubError(
            f"{repo} at revision {revision} lists a file that {constants.ENDPOINT} does not have: {_line(error)}; "
            "run the same again later"
        ) from error
    except HfHubHTTPError as error:
        raise _of_status(error, repo, revision) from error
    except NETWORK_FAILURES as error:
        raise _of_failure(error) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # An answer that is no JSON, or not the JSON of a hub: a proxy's login page, for one.
        raise HubError(
            f"{constants.ENDPOINT} did not answer as a hub does ({type(error).__name__}: {_line(error)}); "
            "check HF_ENDPOINT, and whether a proxy stands in between"
        ) from error


def _of_status(error: HfHubHTTPError, repo: str, revision: str | None) -> HubError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return HubError(
            f"{repo} is gated: its owner wants its terms accepted first; open {constants.ENDPOINT}/{repo} in a "
            "browser, accept them, then run 'hf auth login' (or set HF_TOKEN) with that account's token"
        )
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{repo} has no revision {revision!r}; {_revisions(repo)}")
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return HubError(
            f"there is no repository {repo} on {constants.ENDPOINT} (nor a file or folder of that name here), or it is "
            "private; check the spelling, and for a private one run 'hf auth login' or set HF_TOKEN"
        )
    if status == 401:
        return HubError(
            f"{constants.ENDPOINT} does not accept the token (401) for {repo}; run 'hf auth login' again, or set "
            "HF_TOKEN to a valid token"
        )
    if status == 403:
        return HubError(
            f"this account may not read {repo} (403); ask its owner for access, or run 'hf auth login' with a token "
            "that may read it"
        )
    if status == 429:
        return HubError(f"{constants.ENDPOINT} says there were too many requests (429); wait some minutes, or log in")
    if status >= 500:
        return UnreachableError(f"{constants.ENDPOINT} has trouble (HTTP status {status})")
    return HubError(f"{constants.ENDPOINT} refuses to give {repo}: {_line(error)}")


def _of_failure(error: BaseException) -> HubError:
    number = getattr(error, "errno", None)
    if number in _NO_SPACE:
        return HubError(
            f"no space left where the hub's cache is, {constants.HF_HUB_CACHE}; free some, or set HF_HOME to a folder "
            "on another disk"
        )
    if isinstance(error, PermissionError):
        return HubError(f"the hub's cache cannot be written: {error}; set HF_HOME to a folder of your own")
    return UnreachableError(f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}: {_line(error)})")


def _revisions(repo: str) -> str:
    with suppress(HfHubHTTPError, *NETWORK_FAILURES):
        refs = HfApi().list_repo_refs(repo)
        return "there are: " + ", ".join(ref.name for ref in (*refs.branches, *refs.tags))
    return "leave --revision out for the newest"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
