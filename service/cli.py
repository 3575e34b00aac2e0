"""What the command lines of all programs have in common."""

import errno
import sys
from typing import Any, NoReturn

import click

CONFIGURATION_ERROR = 78  # EX_CONFIG: a supervisor should not restart what a person must correct
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Program(click.Group):
    """A program's commands, with -h and --version; output that finds no room ends it with one line, not a traceback."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, context_settings={"help_option_names": ["-h", "--help"]}, **options)
        click.version_option(package_name="hanse-sensor-pipeline")(self)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            made = super().invoke(ctx)
            sys.stdout.flush()
        except OSError as error:
            if error.errno not in FULL:
                raise
            click.echo(f"{ctx.info_name}: the output can't be written: {error.strerror}", err=True)
            ctx.exit(1)
        except UnicodeEncodeError as error:
            if "surrogates" not in error.reason:
                raise
            ctx.fail(f"an argument is not in UTF-8: {error.object[:80]!r}")  # Python reads its odd bytes as surrogates
        return made


def fail(program: str, code: int, *said: object) -> NoReturn:
    """End a program with a code after what is wrong, each with the program's name before it."""
    for one in said:
        click.echo(f"{program}: {one}", err=True)
    sys.exit(code)
