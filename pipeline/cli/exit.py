"""Exit codes, and how what voxtile refuses becomes a sentence and one of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

USAGE, SOME_FAILED, BAD_INPUT, MODEL_REFUSED, ENVIRONMENT, INTERRUPTED = 2, 3, 4, 5, 6, 130


@contextmanager
def explained() -> Iterator[None]:
    """Turn what voxtile refuses into a sentence and an exit code."""
    from voxtile.errors import CaseError, EnvironmentFault, ManifestError, ModelError, SourceError

    try:
        yield
    except ManifestError as error:
        refuse("\n".join(error.problems), BAD_INPUT)
    except CaseError as error:
        refuse(f"{error.code}: {error.sentence}", BAD_INPUT)
    except SourceError as error:
        refuse(str(error), BAD_INPUT)
    except ModelError as error:
        refuse(str(error), MODEL_REFUSED)
    except EnvironmentFault as error:
        refuse(str(error), ENVIRONMENT)
    except ValueError as error:
        refuse(str(error), USAGE)
    except KeyboardInterrupt as error:
        refuse(str(error) or "interrupted", INTERRUPTED)


def refuse(message: str, code: int) -> NoReturn:
    """Say why and leave."""
    typer.echo(message, err=True)
    raise typer.Exit(code)
